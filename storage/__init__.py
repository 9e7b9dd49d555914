"""What is remembered: tables, checkpoints, MLflow."""
