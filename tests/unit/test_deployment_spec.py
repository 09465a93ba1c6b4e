"""DeploymentSpec: Dynamo's names, and an error where upstream did nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from holdfast.deploy import BadSpec, DeploymentSpec

VLLM = Path(__file__).parents[2] / "examples" / "hw_faults" / "specs" / "vllm.yaml"


@pytest.fixture
def spec() -> DeploymentSpec:
    return DeploymentSpec(VLLM)


def with_args(args: object) -> DeploymentSpec:
    service = {"extraPodSpec": {"mainContainer": {"args": args}}, "resources": {"limits": {"gpu": "1"}}}
    return DeploymentSpec(
        {
            "apiVersion": "nvidia.com/v1alpha1",
            "kind": "DynamoGraphDeployment",
            "metadata": {"name": "d"},
            "spec": {"services": {"w": service}},
        }
    )


def test_what_a_file_says(spec):
    assert (spec.name, spec.namespace, spec.port, spec.system_port, spec.endpoint) == (
        "vllm-disagg",
        "",
        8000,
        9090,
        "/v1/chat/completions",
    )
    assert [service.name for service in spec.services] == ["Frontend", "VllmDecodeWorker", "VllmPrefillWorker"]
    assert spec.frontend_service.name == "Frontend" and [one.name for one in spec.worker_services()] == [
        "VllmDecodeWorker",
        "VllmPrefillWorker",
    ]
    worker = spec["VllmDecodeWorker"]
    assert (worker.replicas, worker.gpus, worker.tensor_parallel_size, worker.model) == (1, 1, 1, "Qwen/Qwen3-0.6B")
    assert (spec["Frontend"].gpus, spec["Frontend"].model, spec["Frontend"].component_type) == (0, None, "frontend")


def test_changes_reach_the_raw_mapping_and_a_saved_file(spec, tmp_path):
    spec.name, spec.namespace = "mine", "there"
    spec.set_model("m/n")
    spec.set_image("x/y:1")
    spec.set_image("x/z:2", "Frontend")
    spec.set_tensor_parallel(2)
    spec.set_logging(enable_jsonl=True, log_level="debug")
    spec.set_logging(enable_jsonl=False, log_level="info")
    spec.set_service_env_var("Frontend", "A", "1")
    spec.set_service_env_var("Frontend", "A", "2")
    spec.add_arg_to_service("VllmDecodeWorker", "--seed", "7")
    spec.add_arg_to_service("VllmDecodeWorker", "--seed", "8")
    spec.add_arg_to_service("VllmDecodeWorker", "--eager")
    spec.set_service_replicas("VllmDecodeWorker", 3)
    spec.set_dynamo_namespace("dn")
    spec.disable_grove()
    spec.save(tmp_path / "out.yaml")
    raw = yaml.safe_load((tmp_path / "out.yaml").read_text())
    assert raw == spec.spec() and raw["metadata"] == {
        "name": "mine",
        "namespace": "there",
        "annotations": {"nvidia.com/enable-grove": "false"},
    }
    decode = raw["spec"]["services"]["VllmDecodeWorker"]
    assert decode["extraPodSpec"]["mainContainer"]["args"] == [
        "--model",
        "m/n",
        "--tensor-parallel-size",
        "2",
        "--seed",
        "8",
        "--eager",
    ]
    # A text, as the resource's definition has it.
    assert decode["resources"]["limits"]["gpu"] == "2" and decode["replicas"] == 3 and decode["dynamoNamespace"] == "dn"
    assert raw["spec"]["services"]["Frontend"]["envs"] == [{"name": "A", "value": "2"}] == spec.get_service_env_vars("Frontend")
    assert spec["Frontend"].image == "x/z:2" and spec["VllmPrefillWorker"].image == "x/y:1"
    assert len(raw["spec"]["envs"]) == 2 and spec.get_logging_config() == {"jsonl_enabled": False, "log_level": "info"}
    assert "resources" not in raw["spec"]["services"]["Frontend"]


@pytest.mark.parametrize(
    "args, changed",
    [
        (["--model", "a", "-x"], ["--model", "b", "-x"]),
        (["--model=a", "-x"], ["--model=b", "-x"]),
        (["--model-path", "a"], ["--model-path", "b"]),
        (["python3 -m w --model 'a' --flag"], ["python3 -m w --model b --flag"]),
        ("python3 -m w --model a", "python3 -m w --model b"),
    ],
)
def test_a_model_is_found_however_arguments_are_written(args, changed):
    spec = with_args(args)
    spec.set_model("b", "w")
    assert spec["w"].model == "b" and spec["w"].container["args"] == changed


def test_a_flag_before_an_option_is_not_its_value():
    spec = with_args(["--eager", "--tp", "4"])
    assert spec["w"].tensor_parallel_size == 4
    spec.set_tensor_parallel(2, ["w"])
    assert spec["w"].container["args"] == ["--eager", "--tp", "2"] and spec["w"].gpus == 2


def test_a_mapping_is_copied(spec):
    other = DeploymentSpec(spec.spec())
    other.set_model("x")
    assert spec["VllmDecodeWorker"].model == "Qwen/Qwen3-0.6B"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda s: s.get_service("Nobody"), "there is no service 'Nobody'; there are Frontend, VllmDecodeWorker, VllmPrefillWorker"),
        (lambda s: s.set_image("a:b", "Nobody"), "no service 'Nobody'"),
        (lambda s: s.set_model("x", "Frontend"), "none of Frontend has --model or --model-path"),
        (lambda s: s.set_tensor_parallel(0), "a tensor-parallel size of 0 cannot be"),
        (lambda s: s.set_tensor_parallel(2, ["Nobody"]), "no service 'Nobody'"),
        (lambda s: s.set_service_replicas("Frontend", -1), "-1 replicas cannot be"),
        (lambda s: s.add_arg_to_service("Frontend", "seed", "1"), "'seed' is no option"),
        (lambda s: s.set_image("two words"), "image: 'two words' is none"),
        (lambda s: setattr(s, "name", ""), "name: '' is none"),
    ],
)
def test_what_cannot_be_is_said(spec, change, words):
    before = yaml.safe_dump(spec.spec())
    with pytest.raises(BadSpec) as raised:
        change(spec)
    assert words in str(raised.value) and isinstance(raised.value, ValueError)
    assert yaml.safe_dump(spec.spec()) == before


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "it has 0 documents"),
        ("a: 1\n---\nb: 2", "it has 2 documents"),
        ("[1, 2]", "a deployment is one mapping"),
        ("{", "not YAML"),
        ("kind: Pod", "kind is 'Pod'"),
        ("kind: DynamoGraphDeployment\napiVersion: v1", "apiVersion is 'v1'"),
        ("kind: DynamoGraphDeployment\napiVersion: nvidia.com/v1alpha1", "metadata.name is missing"),
        ("kind: DynamoGraphDeployment\napiVersion: nvidia.com/v1alpha1\nmetadata: {name: a}", "spec.services is empty"),
        ("kind: DynamoGraphDeployment\napiVersion: nvidia.com/v1alpha1\nmetadata: {name: a}\nspec: {services: {}}", "spec.services is empty"),
        ("kind: DynamoGraphDeployment\napiVersion: nvidia.com/v1alpha1\nmetadata: {name: a}\nspec: {services: {W: 1}}", "spec.services.W is no mapping"),
        ("kind: DynamoGraphDeployment\napiVersion: nvidia.com/v1alpha1\nmetadata: {name: a}\nspec: {services: {W: {replicas: many}}}", "spec.services.W: replicas and GPUs are numbers"),
        ("kind: DynamoGraphDeployment\napiVersion: nvidia.com/v1alpha1\nmetadata: {name: a}\nspec: {services: {W: {resources: {limits: {memory: 2 GB}}}}}", "spec.services.W: resources.limits.memory: '2 GB' is no quantity"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)  # fmt: skip
def test_files_that_are_no_deployment(tmp_path, text, words):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(BadSpec) as raised:
        DeploymentSpec(path)
    assert words in str(raised.value) and str(raised.value).startswith(str(path))


def test_a_file_that_is_not_there():
    with pytest.raises(BadSpec, match="No such file"):
        DeploymentSpec("/nowhere/spec.yaml")
