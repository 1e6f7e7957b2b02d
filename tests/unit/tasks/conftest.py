"""What a task makes of logits: its answers, and what is kept of them and replied."""

from __future__ import annotations

from types import SimpleNamespace


def answers(task, logits, batch, final=False):
    return task.answers(SimpleNamespace(logits=logits), batch, None, final)


def reply(task, logits, batch):
    (example,), (answer,) = batch.examples, answers(task, logits, batch, final=True)
    return task.reply(example, answer)


def kept(task, logits, batch):
    return list(map(task.kept, batch.examples, answers(task, logits, batch, final=True)))
