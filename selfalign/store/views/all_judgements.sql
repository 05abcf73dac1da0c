-- Judgements of the run and of all its branches; branch is NULL for the run as it stands.
CREATE OR REPLACE VIEW all_judgements AS
SELECT NULL::VARCHAR AS branch, * FROM judgements
UNION ALL BY NAME
SELECT * EXCLUDE (of_stage) FROM archived_judgements;
