"""What a request says and what a response has, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

Input = Annotated[
    Any,  # an odd one is refused alone, with a reason
    WithJsonSchema(
        {
            "description": "a text, a list of words or of messages, or an object with the keys of the model's data; "
            "for a model of pictures or recordings, an object with the bytes of a file in base64 as `content`",
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "array", "items": {"$ref": "#/components/schemas/Message"}},
                {"type": "object"},
            ],
        }
    ),
]


class Message(BaseModel):
    """One turn of a conversation."""

    role: str
    content: str


class Options(BaseModel):
    """How a model that generates chooses its tokens; what is left out is as in the run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_new_tokens: int | None = Field(None, ge=1, description="the most tokens of a text")
    num_beams: int | None = Field(None, ge=1, le=8, description="beams of a beam search; 1: none")
    do_sample: bool | None = Field(None, description="draw each token; else the most probable text is searched for")
    temperature: float | None = Field(None, gt=0, le=100, description="divides the logits that are sampled from")
    top_k: int | None = Field(None, ge=1, description="sample among this many most probable tokens")
    top_p: float | None = Field(None, gt=0, le=1, description="sample among the fewest tokens with this probability")
    repetition_penalty: float | None = Field(
        None, gt=0, le=100, description="more than 1: tokens that occurred are rarer"
    )
    seed: int | None = Field(None, ge=0, lt=2**32, description="seed of the draws")


class Asked(BaseModel):
    """A request for answers."""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str | None = Field(
        None, max_length=256, description="a name of `GET /v1/models`; may be left out if it is the only one"
    )
    inputs: list[Input] = Field(min_length=1, description="each is answered, or refused, by itself")
    options: Options | None = Field(None, description="for models that generate")
    stream: bool = Field(False, description="for one input of a model that generates: pieces of the text, line by line")


class Answers(BaseModel):
    """The answers of a model."""

    model: str
    run: str = Field(description="the id of the run that trained the model")
    identity: str = Field(description="the SHA-256 of the run's identity: what the model was made of")
    answers: list[dict[str, Any]] = Field(
        description="one for each input, in order, as by `peftlab predict --jsonl`; `error` says why there is none"
    )
    request_id: str


class Card(BaseModel):
    """What a caller needs to know of a model."""

    name: str
    run: str
    task: str
    labels: list[str]
    method: str
    backbone: str
    identity: str
    max_tokens: int = Field(description="tokens of an input beyond this are cut or answered in parts, as in training")
    generates: bool
    mixed: bool = Field(description="whether inputs of this model share batches with those of others")
    example: Any = Field(description="an input")
    notice: str | None = Field(
        None, description="what everybody who uses its answers is to be told; answers have it in the header `x-notice`"
    )


class Cards(BaseModel):
    """The models that the caller may use."""

    models: list[Card]


class Error(BaseModel):
    """Why there is no answer."""

    code: str = Field(description="a word for programs")
    message: str
    request_id: str


class Failed(BaseModel):
    """The body of every response that is no success."""

    error: Error


class State(BaseModel):
    """The state of a process."""

    status: str
