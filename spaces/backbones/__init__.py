"""The baselines that families make dynamic."""
