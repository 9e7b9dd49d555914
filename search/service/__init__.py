"""Pages and a REST interface beside the MLflow UI, in the same server."""
