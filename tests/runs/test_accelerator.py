"""The accelerator is the recipe's, whatever the environment says."""

from __future__ import annotations

import pytest
from accelerate.state import AcceleratorState
from accelerate.utils import DynamoBackend
from small_run import recipe_of

from distill.run import main
from distill.runs.accelerator import start_accelerator


def test_accumulation_and_compilation_in_the_environment_change_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR")
    AcceleratorState._reset_state()  # which would keep what an accelerator before this one had
    accelerator = start_accelerator(recipe_of())
    assert accelerator.gradient_accumulation_steps == 1
    assert accelerator.state.dynamo_plugin.backend == DynamoBackend.NO


@pytest.mark.parametrize(
    ("variable", "title"), [("FSDP", "FSDP"), ("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")]
)
def test_a_configuration_that_splits_networks_is_refused_in_a_sentence(monkeypatch, capfd, tmp_path, variable, title):
    monkeypatch.setenv(f"ACCELERATE_USE_{variable}", "true")
    assert main(["run", "recipe=sam_to_unet", f"home={tmp_path}"]) == 1
    assert f"Accelerate is configured for {title}, which splits a network over GPUs" in capfd.readouterr().err
