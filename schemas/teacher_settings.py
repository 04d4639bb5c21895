"""Who turns people's boxes into masks, and how long these are kept."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TeacherSettings(BaseModel):
    """A misspelt variable is an error, not silence."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["auto", "sam", "grabcut"] = Field(
        default="auto", description="what turns boxes into masks; auto: SAM where a checkpoint is named, else GrabCut"
    )
    model: Literal["sam-vit-b", "sam-vit-l", "sam-vit-h"] = Field(default="sam-vit-b", description="which SAM the checkpoint is")
    checkpoint: Path | None = Field(default=None, description="SAM's published file, checked against its known sha256")
    device: str = Field(default="cpu", description="of SAM, cpu or cuda:N")
    keep_days: int = Field(default=90, ge=1, description="pseudo-masks that no run used for so long are deleted")

    @model_validator(mode="after")
    def _sam_has_weights(self) -> "TeacherSettings":
        if self.kind == "sam" and self.checkpoint is None:
            raise ValueError("kind sam needs TAMPERWATCH_TEACHER__CHECKPOINT, the path of SAM's published file")
        return self

    @property
    def uses_sam(self) -> bool:
        return self.kind == "sam" or (self.kind == "auto" and self.checkpoint is not None)
