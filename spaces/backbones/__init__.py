"""The plain networks that families make dynamic."""
