-- Labels of the run and of all its branches; branch is NULL for the run as it stands.
CREATE OR REPLACE VIEW all_unary_labels AS
SELECT NULL::VARCHAR AS branch, * FROM unary_labels
UNION ALL BY NAME
SELECT * EXCLUDE (of_stage) FROM archived_unary_labels;
