"""Trials to store in tests."""

from storage.records import OperatingPoint, PointRecord
from storage.store import Store

POINT = OperatingPoint(
    knobs={"threshold": 0.5, "exits": [0.9, 0.8]},
    accuracy=0.9,
    accuracy_low=0.88,
    accuracy_high=0.92,
    macs_mean=1.5e6,
    macs_p95=2e6,
    macs_max=3e6,
    parameters=5_000_000_000,
)


def start(store: Store, number: int, kind="search", study="digits") -> None:
    store.add_trial(
        study, kind, number, "gated_resnet", {"depth": 20, "lr": 0.1}, 2**40 + number, 12
    )


def finish(store: Store, number: int, points=(POINT,), kind="search", **more) -> list[PointRecord]:
    return store.finish_trial(
        "digits", kind, number, points=points, result={"parameters": 7}, seconds=3.5, **more
    )


def stop(store: Store, number: int, epoch: int = 4, points=(POINT,)) -> None:
    start(store, number)
    result = {"stopped_at": epoch}
    store.finish_trial(
        "digits", "search", number, points=points, result=result, seconds=1.5, state="stopped"
    )
