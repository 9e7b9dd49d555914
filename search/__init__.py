"""What to try next and what it was worth: study file, study, operating points, fronts, export, command line."""
