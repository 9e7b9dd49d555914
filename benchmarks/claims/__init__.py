"""What the papers behind the families claim, tried at three scales and reported as it comes out.

`claim` says what a claim is, a module a paper lists them, `scales` sets the sizes, `lab` trains and measures,
`verdicts` judges, `report` prints.
"""
