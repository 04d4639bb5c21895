"""What beat and trainer count, beside the metrics of `storage.telemetry`."""

from prometheus_client import Counter, Gauge

from schemas.states import RetrainState, RetrainTrigger
from storage.telemetry import REGISTRY

BEGUN = Counter("tamperwatch_retrain_begun", "Retraining runs begun here", ["trigger"], registry=REGISTRY)
ENDED = Counter("tamperwatch_retrain_ended", "Retraining runs that ended under this trainer", ["state"], registry=REGISTRY)
MISSED = Counter("tamperwatch_retrain_missed_nights", "Nights that passed without a run", registry=REGISTRY)
LOOKED = Gauge("tamperwatch_retrain_looked_timestamp_seconds", "When the timetable was last looked at", registry=REGISTRY)

# There from the start, so that the first event already is a rate.
for _trigger in RetrainTrigger:
    BEGUN.labels(_trigger.value)
for _state in RetrainState:
    if _state.ended:
        ENDED.labels(_state.value)
