"""What runs call their measures, in words that a person reads: MLflow's charts write them on their axes."""

ACCURACY = "validation accuracy"
TOP5 = "validation top-5 accuracy"
MACS_MEAN, MACS_P95, MACS_MAX = (
    "mean M MACs per image",
    "p95 M MACs per image",
    "max M MACs per image",
)
MACS_LOG = "log10 of mean MACs per image"
PARAMETERS = "M parameters"
LATENCY_MEAN, LATENCY_P95, LATENCY_MAX = (
    "mean latency ms per image",
    "p95 latency ms per image",
    "max latency ms per image",
)
LATENCY_MEASURED = "measured latency ms per image"
SECONDS = "training seconds"


def validation(metric: str) -> str:
    """The measure of a study's metric, as people read its name: "validation accuracy"."""
    return f"validation {metric}"


def low(measure: str) -> str:
    """The lower end of a measure's interval."""
    return f"{measure} low"


def high(measure: str) -> str:
    """The upper end of a measure's interval."""
    return f"{measure} high"


def best(measure: str) -> str:
    """The most of a measure that a training reached."""
    return f"best {measure}"
