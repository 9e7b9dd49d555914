"""The operating points of a trained network: settings of its exits and gates, measured on validation."""
