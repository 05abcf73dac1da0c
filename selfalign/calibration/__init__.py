"""What a judge is worth: gold items and its judgements of them in, figures out. Pure.

Every metric that is written is listed here. A gold item is a prompt with a better and a worse answer, known
without a judge; the judge's verdict on it is *right*, *wrong*, a *tie* (equal scores, or a comparison that the judge
itself calls a tie or undoes when the order is turned round) or *invalid* (an answer without enough valid votes).
"""

from __future__ import annotations

from collections.abc import Mapping

#: Metric -> meaning and unit. Intervals are 95 %, clustered by prompt. Split: gold_test or gold_calibrate for the run's
#: own judge; gold_test/NAME-HASH for a member of it, or another judge.
METRICS: Mapping[str, str] = {
    "judge_pairwise_accuracy": "share of gold items judged right; a tie counts half, an invalid verdict is wrong, 0 to 1",
    "judge_pairwise_accuracy_decided": "share of right verdicts among right and wrong ones, 0 to 1",
    "judge_tie_share": "share of gold items on which the judge ties, 0 to 1",
    "judge_parse_rate": "share of judgements with a readable verdict (ok, tie or disagree), 0 to 1",
    "judge_length_bias": "accuracy where the better answer is over 10 % longer minus where it is over 10 % shorter, -1 to 1",
    "judge_length_slope": "log-odds of a right verdict a doubling of the better answer's length against the worse one's",
    "judge_position_bias": "mean probability of the answer shown first minus 0.5, both orders taken, -0.5 to 0.5",
    "judge_order_flips": "share of comparisons that turn round with the order shown, 0 to 1",
    "judge_self_consistency": "share of pairs of a judge's votes on an item that agree (better, worse, equal), 0 to 1",
    "judge_ece": "expected calibration error of P(better wins), 10 bins of equal mass, 0 to 0.5",
    "judge_brier": "mean squared error of P(better wins), 0 to 1; 0.25 is what a coin gets",
    "judge_tokens": "mean tokens that the judge wrote for one judgement",
}
