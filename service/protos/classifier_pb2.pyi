from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("image", "alpha", "id", "top_k", "model")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    image: bytes
    alpha: float
    id: str
    top_k: int
    model: str
    def __init__(self, image: _Optional[bytes] = ..., alpha: _Optional[float] = ..., id: _Optional[str] = ..., top_k: _Optional[int] = ..., model: _Optional[str] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("id", "model", "posterior", "prediction_set", "p_value", "p_typicality", "p_train", "alpha", "delta", "mode", "threshold", "reference_size", "decision", "rejected", "reason", "scores", "unusual")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASS_FIELD_NUMBER: _ClassVar[int]
    POSTERIOR_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_SET_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    P_TYPICALITY_FIELD_NUMBER: _ClassVar[int]
    P_TRAIN_FIELD_NUMBER: _ClassVar[int]
    ALPHA_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_SIZE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    UNUSUAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: Model
    posterior: _containers.RepeatedCompositeFieldContainer[ClassProbability]
    prediction_set: _containers.RepeatedScalarFieldContainer[str]
    p_value: float
    p_typicality: float
    p_train: float
    alpha: float
    delta: float
    mode: str
    threshold: float
    reference_size: int
    decision: str
    rejected: bool
    reason: str
    scores: Scores
    unusual: _containers.RepeatedCompositeFieldContainer[UnusualStatistic]
    def __init__(self, id: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ..., posterior: _Optional[_Iterable[_Union[ClassProbability, _Mapping]]] = ..., prediction_set: _Optional[_Iterable[str]] = ..., p_value: _Optional[float] = ..., p_typicality: _Optional[float] = ..., p_train: _Optional[float] = ..., alpha: _Optional[float] = ..., delta: _Optional[float] = ..., mode: _Optional[str] = ..., threshold: _Optional[float] = ..., reference_size: _Optional[int] = ..., decision: _Optional[str] = ..., rejected: _Optional[bool] = ..., reason: _Optional[str] = ..., scores: _Optional[_Union[Scores, _Mapping]] = ..., unusual: _Optional[_Iterable[_Union[UnusualStatistic, _Mapping]]] = ..., **kwargs) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class PredictedClass(_message.Message):
    __slots__ = ("index", "label")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    index: int
    label: str
    def __init__(self, index: _Optional[int] = ..., label: _Optional[str] = ...) -> None: ...

class ClassProbability(_message.Message):
    __slots__ = ("label", "probability")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ...) -> None: ...

class Scores(_message.Message):
    __slots__ = ("score", "log_prob", "bits_per_dim")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LOG_PROB_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_DIM_FIELD_NUMBER: _ClassVar[int]
    score: float
    log_prob: float
    bits_per_dim: float
    def __init__(self, score: _Optional[float] = ..., log_prob: _Optional[float] = ..., bits_per_dim: _Optional[float] = ...) -> None: ...

class UnusualStatistic(_message.Message):
    __slots__ = ("statistic", "p_value")
    STATISTIC_FIELD_NUMBER: _ClassVar[int]
    P_VALUE_FIELD_NUMBER: _ClassVar[int]
    statistic: str
    p_value: float
    def __init__(self, statistic: _Optional[str] = ..., p_value: _Optional[float] = ...) -> None: ...
