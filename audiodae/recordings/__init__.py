"""Files and folders of work: found, planned, cleaned, reported."""
