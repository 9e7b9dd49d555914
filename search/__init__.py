"""What to train next and what came of it: study file, study, operating points, fronts, export, command line."""
