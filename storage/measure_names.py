"""What runs call their measures, in words that a person reads: MLflow's charts write them on their axes."""

ACCURACY = "validation accuracy"
ACCURACY_LOW, ACCURACY_HIGH = "validation accuracy low", "validation accuracy high"
BEST_ACCURACY = "best validation accuracy"
MACS_MEAN, MACS_P95, MACS_MAX = (
    "mean M MACs per image",
    "p95 M MACs per image",
    "max M MACs per image",
)
MACS_LOG = "log10 of mean MACs per image"
PARAMETERS = "M parameters"
SECONDS = "training seconds"
