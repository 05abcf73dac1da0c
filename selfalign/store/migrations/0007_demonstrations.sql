-- Candidates that nobody sampled for the prompt as it is written: known answers, and both sides of a contrast.
ALTER TABLE prompts ADD COLUMN answer VARCHAR; -- a good answer that came with the prompt, if any
-- NULL: sampled for the prompt as it is. positive, negative: sampled for the prompt as that side's file shows it.
-- demonstration: the prompt's own answer; sample_idx -1, no weights_hash, logprob under the weights of the others.
ALTER TABLE candidates ADD COLUMN origin VARCHAR;
ALTER TABLE archived_prompts ADD COLUMN answer VARCHAR;
ALTER TABLE archived_candidates ADD COLUMN origin VARCHAR;
