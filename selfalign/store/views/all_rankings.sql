-- Rankings of the run and of all its branches; branch is NULL for the run as it stands.
CREATE OR REPLACE VIEW all_rankings AS
SELECT NULL::VARCHAR AS branch, * FROM rankings
UNION ALL BY NAME
SELECT * EXCLUDE (of_stage) FROM archived_rankings;
