"""Reason codes of sealing, verifying and loading."""

from __future__ import annotations

from regalia.core.errors import Code


class SealCode(Code):
    """Refusals around sealed models."""

    NOT_A_PLAIN_FILE = (
        "A link or device leads to bytes outside the model directory, or to none at all.",
        "Seal a copy made with `cp -rL`, or name where links may lead with --follow-links-into.",
    )
    GIT_LFS_POINTER = (
        "The file only names the weights; they were never downloaded.",
        "Run `git lfs pull` in the model's repository, and seal again.",
    )
    PRIVATE_KEY_INSIDE = (
        "Every runtime that may load the model would hold this key, and everybody it leaks to.",
        "Move the key out of the model directory, and seal again.",
    )
    PICKLED_WEIGHTS = (
        "Loading a pickle runs whatever code is in it, so no engine here loads one.",
        "Convert it to safetensors; if those lie beside it, give --leave-out-unneeded.",
    )
    INCOMPLETE_MODEL = (
        "No engine could serve a model that lacks a part of its weights.",
        "Download the model again, and seal when that has ended.",
    )
    ADAPTER_WITHOUT_BASE = (
        "An adapter is sealed for one model, so that nobody can merge it into another.",
        "Give the sealed model that it was trained on with --base.",
    )
    NOT_AN_ADAPTER = (
        "Only an adapter has a base: a manifest that names one is served by no runtime alone.",
        "Leave --base out, or give the adapter's own folder, as PEFT saves it.",
    )
    BASE_UNUSABLE = (
        "An adapter is merged into a whole model, and that model's manifest says which one it is.",
        "Give the sealed model that the adapter was trained on, not another adapter.",
    )
    IS_A_CACHE = (
        "A cache holds several versions of a model, and other files than a model's.",
        "Give the directory of one snapshot in it.",
    )
    MODEL_EMPTY = ("There is nothing to seal.", "Give the directory that holds the model's files.")
    ALREADY_SEALED = (
        "A sealed model inside another can be served by no runtime.",
        "Give the directory of the model in clear; `regalia open` recovers it for its owner.",
    )
    MODEL_TOO_LARGE = (
        "The format's limits bound what every reader must be ready for.",
        "Seal with a larger stride, or split the model; the limit is in the message.",
    )
    MODEL_CHANGED = (
        "Half of the old and half of the new model would have been sealed as one.",
        "Stop whatever writes there, and seal again; with --restart if an earlier run began.",
    )
    SEALING_RUNNING = (
        "Two runs would do the same work, and only the first one could give the result its name.",
        "Wait for the other run, or choose another output.",
    )
    SEALING_UNFINISHED = (
        "Two sealings that differ would be mixed, or hours of work removed unasked.",
        "Repeat the command as it was, or discard with --restart what the interrupted run left.",
    )
    OUTPUT_INSIDE_MODEL = (
        "The sealed model would become part of the model that is being sealed.",
        "Choose an output path outside the model directory.",
    )
    VERSION_ROLLBACK = (
        "An old version may be the one that was withdrawn.",
        "Fetch the current sealed model, or lower the minimum if going back is intended.",
    )
    PREFIX_CHANGED = (
        "The file's head is not the one that the owner signed; it may come from another model.",
        "Fetch the named file again.",
    )
    SHARD_MISPLACED = (
        "The file is well formed and belongs to another place or another sealed model.",
        "Fetch the named file again; if it is yours, seal again.",
    )
    SIZE_CHANGED = (
        "Bytes were cut off or added.",
        "Fetch the named file again.",
    )
    CIPHERTEXT_CHANGED = (
        "The file is not the one that the owner signed.",
        "Fetch the named file again; if it repeats, the store or the path to it is tampering.",
    )
    WRONG_MODEL_KEY = (
        "The key opens another model, or another sealing of this one.",
        "Give the key reference that was used to seal; each sealing has a key of its own.",
    )
    COMMITMENT_MISMATCH = (
        "This file was sealed under another key than the model's index, so it does not belong.",
        "Fetch the sealed model again; if it is yours, seal again.",
    )
    MODEL_ID_MISMATCH = (
        "The files inside are not those that the manifest's model id names.",
        "Do not use this sealed model; ask its owner.",
    )
    FILE_CHANGED = (
        "A file's bytes are not those whose digest the owner recorded.",
        "Do not use this sealed model; ask its owner.",
    )
    UNEXPECTED_FILE = (
        "A sealed directory holds ciphertext and a manifest only; anything else may be a leak.",
        "Look at the file, and remove it from the sealed directory.",
    )
