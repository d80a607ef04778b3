"""The gate's statistics against their formulas, written out once more with numpy and scipy."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.fft import dctn, idctn
from scipy.special import logsumexp
from torch import Tensor

from model.classifier import ClassifierOutput, GenerativeClassifier
from model.config import FlowConfig, StageConfig
from model.couplings import Conditioner
from model.scoring import score
from model.statistics import statistics
from model.transforms import ActNorm, Compose, Traced

Float64Array = npt.NDArray[np.float64]

HAAR = StageConfig(downsample="haar", blocks=2, width=4)
CONFIGS = {
    "digits-sized, 2 x 2 at the end": FlowConfig(
        input_shape=(1, 8, 8), n_classes=10, stages=(HAAR, HAAR), levels=17
    ),
    "one place at the end": FlowConfig(
        input_shape=(1, 2, 2),
        n_classes=3,
        stages=(StageConfig(downsample="haar", blocks=1, width=4),),
    ),
    "one class": FlowConfig(input_shape=(1, 4, 4), n_classes=1, stages=(HAAR,)),
    "one row of pixels, no couplings": FlowConfig(input_shape=(1, 1, 7), n_classes=2, stages=()),
    "odd sides, many couplings": FlowConfig(
        input_shape=(3, 5, 7), n_classes=4, stages=(StageConfig(blocks=8, width=4),)
    ),
    "colour, every transform, low-rank means": FlowConfig(
        input_shape=(3, 16, 16),
        n_classes=5,
        stages=(
            StageConfig(downsample="coupling", subnet="entry", blocks=1, width=4),
            StageConfig(downsample="haar", subnet="bottleneck", blocks=2, width=4),
        ),
        means="low-rank",
        means_rank=2,
    ),
}
FLOOR = np.log(1e-12)


def perturbed(config: FlowConfig, seed: int = 0) -> GenerativeClassifier:
    torch.manual_seed(seed)
    classifier = GenerativeClassifier(config)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return classifier.eval()


@pytest.fixture(params=CONFIGS)
def classifier(request: pytest.FixtureRequest, float64: None) -> GenerativeClassifier:
    return perturbed(CONFIGS[request.param])


@pytest.fixture
def small(float64: None) -> GenerativeClassifier:
    """12 x 16 latent cells of 4 channels, so that every band and place has several members."""
    return perturbed(
        FlowConfig(
            input_shape=(1, 24, 32),
            n_classes=3,
            stages=(StageConfig(downsample="haar", blocks=2, width=4),),
        )
    )


def made(classifier: GenerativeClassifier, v: Tensor, predicted: int = 0) -> ClassifierOutput:
    """An output of no image: latent codes at ``v`` (B, D) from the mean of class ``predicted``."""
    batch, config = len(v), classifier.config
    torch.manual_seed(2)
    logits = torch.randn(batch, config.n_classes)
    logits[:, predicted] += 10
    means = classifier.class_means.of(torch.tensor([predicted])).detach()
    couplings = sum(stage.couplings for stage in config.stages)
    trace = Traced(
        z=v + means,
        ladj=torch.randn(batch),
        ladjs=torch.randn(batch, couplings),
        mean_squares=torch.rand(batch, min(couplings, 4)),
    )
    return ClassifierOutput(
        logits=logits, log_prob=torch.randn(batch), z=trace.z, ladj=trace.ladj, trace=trace
    )


def found(output: ClassifierOutput, classifier: GenerativeClassifier) -> dict[str, Float64Array]:
    with torch.inference_mode():
        names, values = statistics(output, classifier)
    assert values.dtype == torch.float64
    return dict(zip(names, values.T.numpy(), strict=True))


def chunks(values: list[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Up to ``most`` consecutive parts, none empty, the first ones longer by one."""
    parts = min(len(values), most)
    sizes = [len(values) // parts + (i < len(values) % parts) for i in range(parts)]
    ends = np.cumsum(sizes)
    return [values[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def sides(length: int) -> list[list[int]]:
    return [[i for _, i in part] for part in chunks([(0, i) for i in range(length)], 3)]


def expected(output: ClassifierOutput, classifier: GenerativeClassifier) -> dict[str, Float64Array]:
    """Term by term, as the module's docstring has it."""
    trace = output.trace
    assert trace is not None
    logits = output.logits.detach().numpy()
    means = classifier.class_means.of(output.logits.argmax(1)).detach().numpy()
    v = output.z.detach().numpy() - means
    ladjs, squares = trace.ladjs.detach().numpy(), trace.mean_squares.detach().numpy()
    named = {"ladj": trace.ladj.detach().numpy()}
    for i, part in enumerate(
        chunks([(0, j) for j in range(ladjs.shape[1])], 6) if ladjs.size else []
    ):
        named[f"ladj_{i + 1}"] = sum((ladjs[:, j] for _, j in part), np.zeros(len(v)))
    for i in range(squares.shape[1]):
        named[f"mean_square_{i + 1}"] = np.log(squares[:, i])
    ordered = np.sort(logits, axis=1)
    log_posterior = logits - logsumexp(logits, axis=1, keepdims=True)
    named["margin"] = ordered[:, -1] - ordered[:, -min(2, logits.shape[1])]
    named["entropy"] = -(np.exp(log_posterior) * log_posterior).sum(axis=1)
    named["class_distance"] = (v**2).mean(axis=1)
    named["kurtosis"] = (v**4).mean(axis=1) / (v**2).mean(axis=1) ** 2
    return named | of_plane(v, *plane_of(classifier.config))


def plane_of(config: FlowConfig) -> tuple[int, int, int]:
    halvings = sum(stage.downsample != "none" for stage in config.stages)
    channels, height, width = config.input_shape
    return channels * 4**halvings, height >> halvings, width >> halvings


def of_plane(v: Float64Array, channels: int, height: int, width: int) -> dict[str, Float64Array]:
    coefficients = v.reshape(len(v), height, width, channels)
    space = idctn(coefficients, axes=(1, 2), norm="ortho")
    cells = list(product(range(height), range(width)))
    bands = dict(enumerate(chunks(sorted(cells, key=lambda at: (sum(at), at)), 4), start=1))
    members = {f"band_{i}": part for i, part in bands.items()}
    members |= {"band_rows": [(u, 0) for u in range(1, height)]}
    members |= {"band_columns": [(0, w) for w in range(1, width)]}
    named = {name: mean_square_at(coefficients, part) for name, part in members.items() if part}
    for (i, rows), (j, columns) in product(enumerate(sides(height), 1), enumerate(sides(width), 1)):
        named[f"place_{i}{j}"] = mean_square_at(space, list(product(rows, columns)))
    return named


def mean_square_at(plane: Float64Array, cells: list[tuple[int, int]]) -> Float64Array:
    """Log of the mean square of (B, H, W, C) over some cells and all channels."""
    values = np.stack([plane[:, i, j] for i, j in cells], axis=1)
    result: Float64Array = np.log((values**2).mean(axis=(1, 2)))
    return result


def test_each_is_its_formula(classifier: GenerativeClassifier) -> None:
    torch.manual_seed(1)
    output = classifier(torch.rand(5, *classifier.config.input_shape), traced=True)
    values, wanted = found(output, classifier), expected(output, classifier)
    assert list(values) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_each_is_its_formula_far_from_the_model(small: GenerativeClassifier) -> None:
    """Of latent codes that no image has: huge, tiny and sparse."""
    torch.manual_seed(3)
    v = torch.randn(4, small.config.dim) * torch.tensor([1e-2, 1.0, 30.0, 1e3])[:, None]
    v[3] *= torch.rand_like(v[3]) < 0.05
    output = made(small, v, predicted=1)
    values, wanted = found(output, small), expected(output, small)
    for name, value in wanted.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-6, atol=1e-6, err_msg=name)


def test_under_the_model_they_are_where_it_says(small: GenerativeClassifier) -> None:
    """v ~ N(0, 1): energies have logarithm 0, the distance is 1, the kurtosis 3."""
    torch.manual_seed(4)
    values = found(made(small, torch.randn(400, small.config.dim)), small)
    for name, value in values.items():
        if name.startswith(("band_", "place_")):
            assert abs(value.mean()) < 0.03, name
    assert values["class_distance"].mean() == pytest.approx(1, abs=0.01)
    assert values["kurtosis"].mean() == pytest.approx(3, abs=0.05)


def only(values: dict[str, Float64Array], prefix: str) -> list[str]:
    """Which of the statistics named so are above the floor."""
    return [name for name, v in values.items() if name.startswith(prefix) and v[0] > FLOOR + 1e-9]


@pytest.mark.parametrize(
    ("frequency", "bands"),
    [
        ((0, 0), ["band_1"]),
        ((0, 1), ["band_1", "band_columns"]),
        ((1, 0), ["band_1", "band_rows"]),
        ((11, 0), ["band_2", "band_rows"]),
        ((0, 15), ["band_3", "band_columns"]),
        ((4, 7), ["band_2"]),
        ((11, 15), ["band_4"]),
    ],
)
def test_one_frequency_is_in_its_bands(
    small: GenerativeClassifier, frequency: tuple[int, int], bands: list[str]
) -> None:
    channels, height, width = plane_of(small.config)
    v = torch.zeros(1, height, width, channels)
    v[0, frequency[0], frequency[1], 2] = 6.0
    values = found(made(small, v.flatten(1)), small)
    assert only(values, "band_") == bands
    sizes = {"band_rows": height - 1, "band_columns": width - 1}
    for name in bands:
        cells = sizes.get(name, height * width // 4)
        assert values[name][0] == pytest.approx(np.log(36 / (channels * cells)), abs=1e-6)


@pytest.mark.parametrize(
    ("cell", "place"),
    [((0, 0), "11"), ((3, 5), "11"), ((4, 6), "22"), ((11, 0), "31"), ((7, 15), "23")],
)
def test_one_cell_is_in_its_place(
    small: GenerativeClassifier, cell: tuple[int, int], place: str
) -> None:
    channels, height, width = plane_of(small.config)
    space = np.zeros((1, height, width, channels))
    space[0, cell[0], cell[1], 1] = 6.0
    v = torch.from_numpy(dctn(space, axes=(1, 2), norm="ortho")).flatten(1)
    values = found(made(small, v), small)
    assert only(values, "place_") == [f"place_{place}"]
    rows, columns = (len(sides(n)[int(i) - 1]) for n, i in zip((height, width), place, strict=True))
    mean_square = 36 / (rows * columns * channels)
    assert values[f"place_{place}"][0] == pytest.approx(np.log(mean_square), abs=1e-6)


def test_bands_and_places_average(small: GenerativeClassifier) -> None:
    """Weights that sum to one: an energy that is everywhere the same is found everywhere."""
    values = found(made(small, torch.full((1, small.config.dim), 3.0)), small)
    for name in (name for name in values if name.startswith("band_")):
        assert values[name][0] == pytest.approx(np.log(9), abs=1e-6), name
    channels, height, width = plane_of(small.config)
    v = torch.from_numpy(
        dctn(np.full((1, height, width, channels), 3.0), axes=(1, 2), norm="ortho")
    )
    values = found(made(small, v.flatten(1)), small)
    for name in (name for name in values if name.startswith("place_")):
        assert values[name][0] == pytest.approx(np.log(9), abs=1e-6), name


def test_a_code_at_its_mean_has_statistics(small: GenerativeClassifier) -> None:
    values = found(made(small, torch.zeros(2, small.config.dim)), small)
    assert all(np.isfinite(value).all() for value in values.values())
    assert not values["class_distance"].any()
    np.testing.assert_array_equal(values["band_1"], FLOOR)


def test_an_impossible_class_leaves_numbers(small: GenerativeClassifier) -> None:
    output = made(small, torch.randn(2, small.config.dim))
    output.logits[:, 1] = -1e6
    values = found(output, small)
    assert np.isfinite(values["entropy"]).all()
    assert np.isfinite(values["margin"]).all()


def test_a_single_class_is_certain(float64: None) -> None:
    classifier = perturbed(CONFIGS["one class"])
    values = found(classifier(torch.rand(2, 1, 4, 4), traced=True), classifier)
    assert not values["margin"].any()
    assert not values["entropy"].any()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_trace_is_the_forward_pass(classifier: GenerativeClassifier, dtype: torch.dtype) -> None:
    flow = classifier.to(dtype).flow
    x = torch.rand(3, *classifier.config.input_shape, dtype=dtype)
    z, ladj = flow(x)
    trace = flow.trace(x)
    assert torch.equal(trace.z, z)
    assert torch.equal(trace.ladj, ladj)
    plain, traced = classifier(x), classifier(x, traced=True)
    assert plain.trace is None
    assert torch.equal(plain.logits, traced.logits)
    assert torch.equal(plain.log_prob, traced.log_prob)


@torch.no_grad()
def test_the_couplings_and_the_constants_make_the_ladj(classifier: GenerativeClassifier) -> None:
    flow, x = classifier.flow, torch.rand(3, *classifier.config.input_shape)
    trace, constant = flow.trace(x), torch.zeros(3)
    for step in flow.steps:
        x, ladj = step(x)
        if not step.learns_volume:
            constant = constant + ladj
            torch.testing.assert_close(ladj, ladj[:1].expand(3))
    assert trace.ladjs.shape == (3, sum(stage.couplings for stage in classifier.config.stages))
    torch.testing.assert_close(trace.ladjs.sum(1) + constant, trace.ladj)


@torch.no_grad()
def test_mean_squares_are_of_act_norms(classifier: GenerativeClassifier) -> None:
    flow, outputs = classifier.flow, [torch.empty(0)]
    outputs.clear()
    for step in flow.steps:
        if isinstance(step, ActNorm):
            step.register_forward_hook(lambda _module, _x, made: outputs.append(made[0]))
    trace = flow.trace(torch.rand(3, *classifier.config.input_shape))
    last = len(outputs) - 1
    chosen = sorted({round(share * last) for share in (0, 1 / 3, 2 / 3, 1)}) if outputs else []
    assert trace.mean_squares.shape == (3, len(chosen))
    for column, index in enumerate(chosen):
        mean_square = outputs[index].square().flatten(1).mean(1)
        torch.testing.assert_close(trace.mean_squares[:, column], mean_square)


@pytest.mark.parametrize("name", CONFIGS)
def test_names_depend_on_the_configuration_only(name: str) -> None:
    config = CONFIGS[name]
    rng = np.random.default_rng(0)
    seen = set()
    for seed, batch in ((0, 1), (1, 3)):
        images = rng.integers(0, 256, (batch, *config.input_shape), dtype=np.uint8)
        scores = score(perturbed(config, seed), images)
        seen.add(tuple(scores.statistics))
        assert all(value.shape == (batch,) for value in scores.statistics.values())
        assert all(np.isfinite(value).all() for value in scores.statistics.values())
    assert len(seen) == 1


def test_there_are_as_many_as_the_docstring_says() -> None:
    """Six groups of couplings, four ActNorms, six bands, nine places and five more."""
    config = CONFIGS["odd sides, many couplings"]
    names, _ = statistics(
        perturbed(config)(torch.rand(1, *config.input_shape), traced=True), perturbed(config)
    )
    assert len(names) == len(set(names)) == 6 + 4 + 6 + 9 + 5


def test_an_output_without_a_trace_is_refused(small: GenerativeClassifier) -> None:
    output = small(torch.rand(1, *small.config.input_shape))
    with pytest.raises(ValueError, match=r"no trace.*traced=True"):
        statistics(output, small)


def test_a_flow_that_ends_otherwise_is_refused(small: GenerativeClassifier) -> None:
    output = small(torch.rand(1, *small.config.input_shape), traced=True)
    small.flow = Compose([ActNorm(4)])
    with pytest.raises(ValueError, match="ends in ActNorm: expected a DctPool"):
        statistics(output, small)


def test_scoring_is_one_pass_without_a_gradient() -> None:
    """Each network inside a coupling is asked once, and nothing is kept for a backward pass."""
    classifier = perturbed(CONFIGS["odd sides, many couplings"])
    asked = []
    for module in classifier.modules():
        if isinstance(module, Conditioner):
            module.register_forward_hook(lambda m, _x, made: asked.append((m, made[0])))
    score(classifier, np.zeros((2, 3, 5, 7), np.uint8))
    assert len(asked) == len({module for module, _ in asked}) == 8
    assert all(log_scale.is_inference() for _, log_scale in asked)
