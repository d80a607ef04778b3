"""The Open Inference Protocol over HTTP: every path but inference, and what is not offered."""

from __future__ import annotations

import asyncio

import pytest

from service.oip.outputs import EXPLAINED, OUTPUTS
from tests.service.faces import oip
from tests.service.faces.asking import client, over_http, refused
from tests.service.faces.fakes import COLOUR, GREY, LABELS, VERSION, bench, png

INPUTS = [
    {"name": "image", "datatype": "BYTES", "shape": [-1]},
    {"name": "pixels", "datatype": "UINT8", "shape": [-1, 1, 4, 4]},
]
INDEX = [
    {"name": name, "version": VERSION, "state": "READY", "reason": ""} for name in (GREY, COLOUR)
]


def test_health() -> None:
    assert over_http(lambda c: c.get("/v2/health/live")).json() == {"live": True}
    assert over_http(lambda c: c.get("/v2/health/ready")).json() == {"ready": True}


def test_the_server_names_its_extensions() -> None:
    found = over_http(lambda c: c.get("/v2")).json()
    assert list(found) == ["name", "version", "extensions"]
    assert found["name"] == "oodgate"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(found["extensions"])


def test_the_index_lists_what_is_served_whatever_is_sent() -> None:
    for content in (b"", b"{}", b'{"ready": true}', b"\xff"):
        response = over_http(
            lambda c, content=content: c.post("/v2/repository/index", content=content)  # type: ignore[misc]
        )
        assert response.json() == INDEX


@pytest.mark.parametrize("version", ["", f"/versions/{VERSION}"])
def test_a_model_is_described_in_its_version(version: str) -> None:
    async def run() -> None:
        async with client(bench().app()) as asking:
            base = f"/v2/models/{GREY}{version}"
            ready = (await asking.get(f"{base}/ready")).json()
            assert ready == {"name": GREY, "ready": True}
            found = (await asking.get(base)).json()
            assert found["name"] == GREY
            assert found["versions"] == [VERSION]
            assert found["inputs"] == INPUTS
            shapes = {output["name"]: output["shape"] for output in found["outputs"]}
            per_class = {"posterior", "prediction_set"}
            assert shapes == {
                **{n: [-1, len(LABELS)] if n in per_class else [-1] for n in OUTPUTS},
                "heatmap": [-1, len(LABELS), 1, 1],
                "salience": [-1, 1, 1],
                "energy": [-1, 1, 1],
                "decision_plane": [-1, 2],
            }
            types = {output["name"]: output["datatype"] for output in found["outputs"]}
            assert types == OUTPUTS | EXPLAINED
            config = (await asking.get(f"{base}/config")).json()
            assert (config["name"], config["max_batch_size"]) == (GREY, 0)
            assert [tensor["data_type"] for tensor in config["input"]] == [
                "TYPE_STRING",
                "TYPE_UINT8",
            ]
            assert [tensor["dims"] for tensor in config["input"]] == [[-1], [-1, 1, 4, 4]]
            assert [tensor["name"] for tensor in config["output"]] == [*OUTPUTS, *EXPLAINED]

    asyncio.run(run())


@pytest.mark.parametrize("path", ["", "/ready", "/config", "/stats"])
@pytest.mark.parametrize(
    "model", ["nobody", f"{GREY}/versions/1", f"nobody/versions/{VERSION}", f"{GREY}/versions/%20"]
)
def test_another_model_or_version_is_not_found(model: str, path: str) -> None:
    response = over_http(lambda c: c.get(f"/v2/models/{model}{path}"))
    assert refused(response) == (404, "unknown_model")


def test_statistics_add_up() -> None:
    async def run() -> None:
        async with client(bench().app()) as asking:

            async def infer(*images: bytes) -> None:
                body = oip.image_binary(images)
                await asking.post(
                    f"/v2/models/{GREY}/infer", content=body.content, headers=body.headers
                )

            await infer(png(1), png(2), png(3))
            await infer(png(5))
            await infer(b"no image")
            everything = (await asking.get("/v2/models/stats")).json()["model_stats"]
            assert [entry["name"] for entry in everything] == [GREY, COLOUR]
            (entry,) = (await asking.get(f"/v2/models/{GREY}/stats")).json()["model_stats"]
            assert entry == everything[0]
            assert (entry["inference_count"], entry["execution_count"]) == (4, 2)
            durations = entry["inference_stats"]
            assert (durations["success"]["count"], durations["fail"]["count"]) == (2, 1)
            for name in ("queue", "compute_input", "compute_infer"):
                assert durations[name]["count"] == 2
            assert durations["cache_hit"] == {"count": 0, "ns": 0}
            assert everything[1]["inference_count"] == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v2/repository/models/fake/load"),
        ("POST", "/v2/repository/models/fake/unload"),
        ("GET", "/v2/systemsharedmemory/status"),
        ("GET", "/v2/systemsharedmemory/region/a/status"),
        ("POST", "/v2/systemsharedmemory/region/a/register"),
        ("POST", "/v2/systemsharedmemory/unregister"),
        ("GET", "/v2/cudasharedmemory/status"),
        ("POST", "/v2/cudasharedmemory/region/a/register"),
        ("POST", "/v2/cudasharedmemory/region/a/unregister"),
        ("GET", "/v2/trace/setting"),
        ("POST", "/v2/trace/setting"),
        ("POST", "/v2/models/fake/trace/setting"),
        ("GET", "/v2/logging"),
        ("POST", "/v2/logging"),
    ],
)
def test_what_is_not_offered_says_so(method: str, path: str) -> None:
    assert refused(over_http(lambda c: c.request(method, path))) == (501, "unsupported")
