"""What can be built: families of dynamic networks, the dimensions that a study searches, their compute."""
