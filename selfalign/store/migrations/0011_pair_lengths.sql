-- Tokens of a pair's answers. NULL: written before there were these columns; its candidates say.
ALTER TABLE pairs ADD COLUMN chosen_tokens INTEGER;
ALTER TABLE pairs ADD COLUMN rejected_tokens INTEGER;
ALTER TABLE archived_pairs ADD COLUMN chosen_tokens INTEGER;
ALTER TABLE archived_pairs ADD COLUMN rejected_tokens INTEGER;
