"""How a candidate is trained and measured: data, one training loop for every family, evaluation, latency."""
