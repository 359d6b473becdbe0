"""What a proxy is: its shape, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from climb_opt.choices import SPARE, Choice


@dataclass(frozen=True)
class ModelRecipe:
    """The shape of a Llama-style decoder built from a config, or a checkpoint to continue from.

    `checkpoint` (a folder or hub name) replaces the shape. The vocabulary is the corpus's.
    """

    hidden: int = 64  # width of the residual stream; a multiple of `heads`
    layers: int = 2  # decoder blocks
    heads: int = 4  # attention heads a block
    kv_heads: int | None = None  # None: as many as heads
    intermediate: int | None = None  # None: 8/3 x hidden, rounded up to a multiple of 16
    tied: bool = True  # input and output embeddings are one matrix
    checkpoint: str | None = None  # a Hugging Face model to go on from, instead of the shape

    RANGES: ClassVar[dict[str, Any]] = dict.fromkeys(
        ("hidden", "layers", "heads", "kv_heads", "intermediate"), (1,)
    )

    @property
    def mlp(self) -> int:
        """The width between the two matrices of a feed-forward block."""
        return self.intermediate or -(-self.hidden * 8 // 3 // 16) * 16


@dataclass(frozen=True)
class ProxyRecipe:
    """How one proxy is trained. Sizes are in tokens, so that they hold on any number of devices."""

    model: ModelRecipe = field(default_factory=ModelRecipe)  # its shape, or a checkpoint
    tokens: int = 262_144  # trained on in one trial
    sequence: int = 128  # tokens a sequence
    batch_tokens: int = 4096  # global batch of one optimiser step
    micro_batch_tokens: int | None = None  # per device and pass; None: as large as the batch allows
    lr: float = 3e-3  # learning rate after the warm-up, of AdamW
    min_lr: float = 0.0  # learning rate at the last step
    schedule: Literal["wsd", "cosine"] = "wsd"  # wsd: warm-up, constant, decay
    warmup: float = 0.05  # fraction of the steps
    decay: float = 0.2  # fraction of the steps; wsd only
    betas: tuple[float, float] = (0.9, 0.95)  # AdamW's
    weight_decay: float = 0.1  # of matrices; vectors and norms have none
    clip: float = 1.0  # largest norm of a step's gradient
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the device has it
    compile: bool | None = None  # torch.compile; None: on a GPU only
    max_epochs: float | None = None  # refuse a mixture that repeats a domain more often than this
    checkpoint_every: int | None = None  # steps between checkpoints; None: only when stopped
    report_every: int | None = None  # steps between intermediate target losses; None: never
    go_on: bool = False  # of a rung: from the rung below, before its decay; wsd only
    average: float = 0.0  # last share of the steps whose mean weights are scored and kept; 0: none
    reweight: Choice | None = field(default=None, metadata=SPARE)  # who moves weights meanwhile
    keep: int = 0  # trained models kept: those of the best `keep` trials
    command: str | None = None  # someone else's trainer, instead of ours
    timeout: float | None = None  # seconds for `command`
    flops: float | None = None  # of one trial; None: counted, of a command unknown

    RANGES: ClassVar[dict[str, Any]] = {  # as `climb_opt.strict.Range`
        **dict.fromkeys(("tokens", "sequence", "batch_tokens", "micro_batch_tokens"), (1,)),
        **dict.fromkeys(("checkpoint_every", "report_every"), (1,)),
        **dict.fromkeys(("lr", "min_lr", "weight_decay", "keep"), (0,)),
        **dict.fromkeys(("clip", "max_epochs", "timeout", "flops"), (0, 2**53, "least")),
        **dict.fromkeys(("warmup", "decay", "average"), (0, 1)),
        "betas": (0, 1, "most"),
    }
