"""Losses as pure functions of log-probabilities: pairwise, unary, listwise; tested against TRL where it has them."""
