"""A submitter's tree for MLPerf Inference, made from finished runs."""
