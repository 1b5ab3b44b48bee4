"""A search on TensorBoard's HPARAMS page: an event file in the folder of each trial.

The summaries are made directly, because PyTorch's `add_hparams` would put a run of its own below
each trial, once for every call.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer.record_writer import RecordWriter

from cluster.search_words import oracle_mark, short_names, show_value
from cluster.trials import Axis, Search, Status, Trial, Value
from uda.data.write import atomic
from uda.quality import MEASURES

HPARAMS_FILE = "events.out.tfevents.0.hparams"  # TensorBoard knows event files by "tfevents"
QUALITY_TAG = "hparam/quality"
ORACLE_TAG = "hparam/oracle_miou"

_STATUSES: dict[Status, int] = {
    "finished": api_pb2.STATUS_SUCCESS,
    "stopped": api_pb2.STATUS_SUCCESS,  # TensorBoard has no word for it, and nothing went wrong
    "failed": api_pb2.STATUS_FAILURE,
}


def write_hparams(search: Search, folder: Path, *, since: Search | None = None) -> None:
    """Brings the event file of every trial up to date; `folder` is the search's.

    What is there already is only added to, so that a TensorBoard that is looking follows. A trial
    that has gone back (or another one of its number) gets a new file. Trials that are the very same
    in `since`, which was written before, are passed over.
    """
    written = {id(trial) for trial in since.trials} if since else set()
    columns = _plugin(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=_experiment(search)))
    for trial in search.trials:
        if id(trial) in written:
            continue
        file = folder / trial.folder / HPARAMS_FILE
        new, old = _records(search, trial, columns), file.read_bytes() if file.exists() else b""
        if new == old:
            continue
        if old and new.startswith(old):
            with file.open("ab") as opened:
                opened.write(new[len(old) :])
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic(file) as partial:
                partial.write_bytes(new)


def _records(search: Search, trial: Trial, columns: Event) -> bytes:
    """The whole event file. The same trial is the same bytes, and a longer one begins with them."""
    out = io.BytesIO()
    writer = RecordWriter(out)
    for event in [*_beginning(search, trial, columns), *_course(trial)]:
        writer.write(event.SerializeToString(deterministic=True))
    return out.getvalue()


def _beginning(search: Search, trial: Trial, columns: Event) -> Iterator[Event]:
    """Times are left at 0: they would differ from call to call, and the page does not need them."""
    yield Event(file_version="brain.Event:2")
    yield columns
    start = SessionStartInfo(group_name=f"trial {trial.number:04}")  # sorted as text
    mixed = {axis.path for axis in search.axes if len(_types(axis)) > 1}
    for path, value in search.values_of(trial).items():
        _set(start, path, show_value(value) if path in mixed else value)
    yield _plugin(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def _course(trial: Trial) -> Iterator[Event]:
    """TensorBoard shows the last value of a scalar: hence the best so far at every step."""
    highest: dict[str, float] = {}
    for point in trial.curve:
        if point.quality is not None and point.quality >= highest.get(QUALITY_TAG, point.quality):
            highest |= {QUALITY_TAG: point.quality, **_tagged(point.measures)}
        if point.oracle_miou is not None:
            highest[ORACLE_TAG] = max(point.oracle_miou, highest.get(ORACLE_TAG, 0.0))
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in highest.items()]
        yield Event(step=point.step, summary=Summary(value=values))
    if trial.status in _STATUSES:
        end = SessionEndInfo(status=_STATUSES[trial.status])
        yield _plugin(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _plugin(tag: str, data: HParamsPluginData) -> Event:
    value = Summary.Value(
        tag=tag, metadata=metadata.create_summary_metadata(data), tensor=metadata.NULL_TENSOR
    )
    return Event(summary=Summary(value=[value]))


def _experiment(search: Search) -> api_pb2.Experiment:
    """The columns of the page. In every trial's file, as one of its own would be one more run."""
    names = short_names([axis.path for axis in search.axes])
    mark = oracle_mark(search)
    metrics = {
        QUALITY_TAG: "quality",
        **({ORACLE_TAG: "ORACLE mIoU"} if search.allow_oracle else {}),
        **{f"hparam/{name}": name for name in MEASURES},
    }
    return api_pb2.Experiment(
        name=search.space,
        description=f"{search.question} {mark}".strip(),
        hparam_infos=[_column(axis, names[axis.path]) for axis in search.axes],
        metric_infos=[
            api_pb2.MetricInfo(
                name=api_pb2.MetricName(tag=tag),
                display_name=name,
                description=mark if tag == ORACLE_TAG else "",
            )
            for tag, name in metrics.items()
        ],
    )


def _column(axis: Axis, name: str) -> api_pb2.HParamInfo:
    """What is outside the domain would be filtered away: hence what the preset has belongs to it.

    A column has one type, so values of several are words.
    """
    info = api_pb2.HParamInfo(name=axis.path, display_name=name, differs=True)  # shown at once
    if axis.kind != "choice":
        here = [float(axis.preset)] if isinstance(axis.preset, int | float) else []
        here += [0.0] if axis.or_zero else []
        info.type = api_pb2.DATA_TYPE_FLOAT64
        info.domain_interval.min_value = min([axis.low, *here])
        info.domain_interval.max_value = max([axis.high, *here])
        return info
    types, values = _types(axis), _choices(axis)
    if len(types) > 1:
        types, values = {api_pb2.DATA_TYPE_STRING}, [show_value(value) for value in values]
    (info.type,) = types
    info.domain_discrete.extend(values)
    return info


def _choices(axis: Axis) -> list[Value]:
    # By their words, as 1 and True are equal.
    if axis.preset is None or show_value(axis.preset) in map(show_value, axis.values):
        return list(axis.values)
    return [*axis.values, axis.preset]


def _types(axis: Axis) -> set[int]:
    """TensorBoard's types of what may stand at an axis."""
    return {_type(value) for value in _choices(axis)} if axis.kind == "choice" else set()


def _type(value: Value) -> int:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


def _set(start: SessionStartInfo, path: str, value: Value) -> None:
    if isinstance(value, bool):
        start.hparams[path].bool_value = value
    elif isinstance(value, str):
        start.hparams[path].string_value = value
    else:
        start.hparams[path].number_value = value


def _tagged(measures: Mapping[str, float]) -> dict[str, float]:
    return {f"hparam/{name}": value for name, value in measures.items()}
