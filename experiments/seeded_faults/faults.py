"""The faults: what each is, the text that it replaces, and the tests that have to notice.

The text is looked for in the whole of ``src/``, where it stands exactly once, so that a module may move. Tests are
named from ``tests/`` on, or by their file alone where that has moved too; what follows goes to pytest.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One fault, sown by replacing `old` with `new`."""

    name: str
    old: str
    new: str
    tests: tuple[str, ...]
    """Files, and options of pytest."""
    tier: str = "default"
    """The first that has to notice: `default`, `slow` or `exhaustive`."""


FAULTS = [
    # The step, and what it minimises
    Fault(
        "the objective forgets the method's penalty",
        "        if penalty is not None:\n            total = total + penalty\n",
        "",
        ("unit/training/test_objective.py",),
    ),
    Fault(
        "a part counts for as much as the others, whatever its share of the step",
        "losses.total * (piece.scale * len(self.parts) * self.world_size + 0 * losses.total.detach())",
        "losses.total * (1 + 0 * losses.total.detach())",
        ("unit/training/test_step.py",),
    ),
    Fault(
        "a step that begins anew keeps the gradient of the pieces before",
        "            parameter.grad = None\n        self.loss, self.terms",
        "            pass\n        self.loss, self.terms",
        ("unit/training/test_step.py",),
    ),
    Fault(
        "the mean over ranks is a sum",
        ".div_(dist.get_world_size())",
        "",
        ("unit/devices/test_data_parallel.py",),
    ),
    Fault(
        "dropout is off in training",
        'choose the way to take steps."""\n        self.train()',
        'choose the way to take steps."""\n        self.eval()',
        ("train/test_training.py", "-k", "dropout_acts"),
    ),
    Fault(
        "the gradient is not clipped",
        "            nn.utils.clip_grads_with_norm_(parameters, most, norm)",
        "            pass",
        ("train/test_training.py", "-k", "clipped"),
    ),
    Fault(
        "NaN is no reason to stop",
        "if torch.isfinite(total + 0 * unsharded(norm_of_all(parameters))):",
        "if True:",
        ("train/test_guards.py", "-k", "bad_loss"),
    ),
    Fault(
        "the mean loss of an evaluation counts every batch alike",
        "self.mean_loss.update(loss, piece.weights.sum().to(loss.device))",
        "self.mean_loss.update(loss, 1)",
        ("train/test_guards.py", "-k", "evaluation_in_pieces"),
    ),
    Fault(
        "vectors are decayed",
        "self.weight_decay if parameter.ndim > 1 else 0.0",
        "self.weight_decay if parameter.ndim > 0 else 0.0",
        ("unit/training/test_optimizers.py",),
    ),
    Fault(
        "the warm-up is a step longer",
        "return round((self.warmup_fraction or 0.0) * total_steps)",
        "return round((self.warmup_fraction or 0.0) * total_steps) + 1",
        ("unit/test_schedules.py",),
    ),
    # Methods
    Fault(
        "an adapter is saved without its head",
        'reads them."""\n        save(self.saved(model), folder / ADAPTER_WEIGHTS)',
        'reads them."""\n        saved = self.saved(model)\n'
        '        saved = {name: saved[name] for name in saved if "classifier" not in name}\n'
        "        save(saved, folder / ADAPTER_WEIGHTS)",
        ("contract/test_methods.py", "-k", "saved and lora"),
    ),
    Fault(
        "the whole model is trained where the head alone is to be",
        'such as top_layers or lora"\n            )\n        model.requires_grad_(False)\n',
        'such as top_layers or lora"\n            )\n',
        ("contract/test_methods.py", "-k", "exact_rest and head"),
    ),
    Fault(
        "BitFit trains weights, too",
        'if name.endswith("bias")\n',
        'if name.endswith(("bias", "LayerNorm.weight"))\n',
        ("contract/test_methods.py", "-k", "exact_rest and bitfit"),
    ),
    Fault(
        "the fused LoRA forgets its scaling forwards",
        ".addmm_(reduced, up.T, alpha=scaling)",
        ".addmm_(reduced, up.T)",
        ("unit/speed/test_lora.py",),
    ),
    Fault(
        "the fused LoRA forgets its scaling backwards",
        "(grad_rows.T @ reduced).to(up_type).mul_(ctx.scaling)",
        "(grad_rows.T @ reduced).to(up_type)",
        ("unit/speed/test_lora.py",),
    ),
    # Data and tasks
    Fault(
        "an entity goes on into a tag of another type",
        'continues = prefix in "IE" and type_ == inside',
        'continues = prefix in "IE" and bool(inside)',
        ("unit/scores/test_bio.py",),
    ),
    Fault(
        "a training that is resumed skips a batch",
        "range(done if self._epoch == epoch else 0, len(batches))",
        "range(done + 1 if self._epoch == epoch else 0, len(batches))",
        ("unit/data/test_batching.py",),
    ),
    Fault(
        "every epoch has the batches of the first",
        "random = np.random.default_rng([seed, epoch])",
        "random = np.random.default_rng([seed, 0])",
        ("unit/data/test_batching.py",),
    ),
    Fault(
        "a rank leaves out all but its first part",
        "for n in range(self.rank, parts, self.world_size)]",
        "for n in range(self.rank, self.world_size, self.world_size)]",
        ("unit/data/test_batching.py",),
    ),
    Fault(
        "an example of a large file is also the next one's",
        "self._parse(self._read(begin, end), place, int(self._numbers[place]))",
        "self._parse(self._read(int(self._offsets[max(place - 1, 0)]), end), place, int(self._numbers[place]))",
        ("unit/data/test_indexed_examples.py",),
    ),
    Fault(
        "the rows of every block of a large split point into the first block",
        "array[not first :] + self.last",
        "array[not first :]",
        ("unit/data/test_encoded_blocks.py",),
    ),
    Fault(
        "of texts with different gold, the first stays",
        "conflicts += [first[text], *others]",
        "conflicts += others",
        ("unit/data/test_duplicates.py",),
    ),
    Fault(
        "balanced weights favour the frequent labels",
        "total / (occurring * counts[label])",
        "occurring * counts[label] / total",
        ("unit/tasks/test_class_weights.py",),
    ),
    # Scores, costs and verdicts
    Fault(
        "of a loss, the highest is the best",
        'return value > self.value if self.selection.mode == "max" else value < self.value',
        "return value > self.value",
        ("unit/training/test_keep_best.py",),
    ),
    Fault(
        "padding is counted as tokens",
        "self.tokens += sum(part.tokens for part in batch)\n        padded",
        "self.tokens += sum(part.positions for part in batch)\n        padded",
        ("unit/training/test_cost.py",),
    ),
    Fault(
        "of the arithmetic of a step, the last operation counts alone",
        "self.operations += formula(",
        "self.operations = formula(",
        ("unit/training/test_arithmetic.py",),
    ),
    Fault(
        "a key that changes the result is no part of the identity",
        '    "trainer.activation_cache_gib",\n',
        '    "trainer.activation_cache_gib",\n    "task.label_smoothing",\n',
        ("unit/runs/test_record.py",),
    ),
    # What is kept, and what is read back
    Fault(
        "a file of a wheel is taken whatever its digest",
        "if actual != expected:\n",
        "if False:\n",
        ("unit/transfer/test_wheels.py", "unit/test_sources.py"),
    ),
    Fault(
        "a checkpoint is taken whatever its digest",
        "return None if file_sha256(path) == digest else",
        "return None if digest else",
        ("unit/storage/test_checkpoints.py",),
    ),
    Fault(
        "a file that was not written to its end takes the place of the old one",
        "    finally:\n        temporary.unlink(missing_ok=True)\n    synchronise(path.parent)",
        "    finally:\n        temporary.exists() and temporary.replace(path)\n    synchronise(path.parent)",
        ("unit/storage/test_atomic.py",),
    ),
    Fault(
        "two processes lock one folder",
        "fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))",
        "pass",
        ("unit/storage/test_locks.py",),
    ),
    Fault(
        "an interrupted run leaves no checkpoint",
        'if (self.signals.pending is not None or pruned) and trainer.state.fn == "fit":',
        'if pruned and trainer.state.fn == "fit":',
        ("unit/training/test_interruption.py",),
    ),
    Fault(
        "of a resumed run, the ranks disagree whether the trail wants a point",
        "self._last = trainer.global_step  # on every rank",
        'self._last = points[-1]["step"] if points else -1  #',
        ("unit/training/test_trail.py",),
    ),
    Fault(
        "a credential is no secret",
        '"secret", "credential", "cred"',
        '"secret"',
        ("unit/masking/test_keys.py", "unit/masking/test_mask.py"),
    ),
    Fault(
        "a class of any package may be named",
        'any(name.startswith(prefix + ".") for prefix in prefixes)',
        "True",
        ("unit/test_config.py",),
    ),
    Fault(
        "a configuration file that has changed is taken as it was",
        "(source.provider, path, state.st_size, state.st_mtime_ns)",
        "(source.provider, path, 0, 0)",
        ("unit/composing/test_hydra_gate.py", "-k", "read_once"),
    ),
    Fault(
        "what is composed of a configuration file changes the next composition",
        "return pickle.loads(_FILES[version])",
        "return _FILES.setdefault(str(version), pickle.loads(_FILES[version]))",
        ("unit/composing/test_hydra_gate.py", "-k", "read_once"),
    ),
    Fault(
        "what Hydra has composed to learn the mode of a command is run although it sweeps",
        "            loader.validate_sweep_overrides_legal(parsed, run_mode, from_shell)\n",
        "",
        ("unit/test_seams.py", "-k", "composes_once"),
    ),
    # Searches
    Fault(
        "the median rule stops the better half",
        ">= statistics.median(averages)",
        "<= statistics.median(averages)",
        ("unit/sweep/test_pruning.py",),
    ),
    Fault(
        "of a loss, a sweep shows the highest as the best",
        '(max if mode == "max" else min)(done',
        "max(done",
        ("unit/sweep/test_board.py",),
    ),
    # What a tier above the default one is there for
    Fault(
        "a planted fault of a report's checks: two seeds are enough",
        "FEWEST = 3\n\n\n",
        "FEWEST = 2\n\n\n",
        ("unit/report/checks/test_checks.py",),
        "slow",
    ),
    Fault(
        "a record's check believes the digest of the best checkpoint",
        'expected |= {"sha256": best.sha256 if best else chosen.get("sha256")}',
        'expected |= {"sha256": chosen.get("sha256")}',
        ("train/test_run_check.py", "-k", "of_the_record"),
        "slow",
    ),
    Fault(
        "of two methods, the second may bypass the first",
        "counts = _COUNTS * max(",
        "counts = 2 * max(",
        ("unit/methods/test_combined.py",),
    ),
    Fault(
        "the options of one library method are those of another: VeRA's rank is doubled",
        "return {key: value for key, value in vars(self).items() if key not in self.__dataclass_fields__}",
        'return {key: value * (1 + (self.peft_type == "VERA" and key == "r")) for key, value in vars(self).items()'
        " if key not in self.__dataclass_fields__}",
        ("contract/test_methods.py", "-k", "vera"),
        "slow",
    ),
    Fault(
        "of a library method that waits for the device, nothing is said",
        '"SHIRA", "VBLORA", "WAVEFT"',
        '"SHIRA", "WAVEFT"',
        ("contract/test_captured.py", "-k", "vblora or waveft"),
        "exhaustive",
    ),
    Fault(
        "attention is found by one architecture's name for it",
        're.search(r"attn|attention", name, re.IGNORECASE)',
        're.search(r"attention", name, re.IGNORECASE)',
        ("contract/test_methods_on_backbones.py", "contract/test_backbones.py", "unit/methods/test_targets.py"),
    ),
    Fault(
        "a run goes on with the random numbers of its beginning",
        '    torch.set_rng_state(states["torch"])\n',
        "",
        ("train/test_resume.py",),
    ),
    Fault(
        "an average of the weights begins anew where a run goes on",
        "self.average = {name: average.clone() for name, average in state.items()}",
        "self.average = {}",
        ("slow/test_weight_averages.py",),
        "slow",
    ),
]
