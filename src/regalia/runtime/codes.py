"""Why a runtime refuses to start, to go on, or to answer."""

from __future__ import annotations

from regalia.core.errors import Code


class RuntimeCode(Code):
    """Refusals around the runtime's life."""

    MEMORY_NOT_LOCKABLE = (
        "Weights in memory that is not locked can be written to swap in clear.",
        "Raise the limit on locked memory (systemd: LimitMEMLOCK=infinity; Kubernetes: IPC_LOCK).",
    )
    SECRET_MEMORY_UNAVAILABLE = (
        'memory = "secret" asks for memfd_secret(2), which even root cannot read from outside.',
        'Enable it (kernel 5.14, boot option secretmem.enable=1), or set memory = "locked".',
    )
    HARDENING_FAILED = (
        "Without this protection other processes of the machine could take keys or weights.",
        "Look at the named cause; the runtime does not start without it.",
    )
    SERVED_MODEL_MISMATCH = (
        "The measured configuration names the one model that this runtime may load.",
        "Check the store's address, or seal and pin the model again.",
    )
    ADAPTER_ALONE = (
        "An adapter is no model: it answers only when it is merged into its base.",
        "Measure the base's model id, name the adapter's as adapter, and set adapter_store.",
    )
    ADAPTER_NOT_MEASURED = (
        "Which adapter is merged is measured, and where it lies is a setting; one needs the other.",
        "Give adapter in the measured configuration and adapter_store in the settings, or neither.",
    )
    ADAPTER_OF_ANOTHER_MODEL = (
        "The owner sealed each adapter for one model, and it would spoil every other.",
        "Serve the base that the adapter was sealed for, or seal the adapter for this model.",
    )
    EVIDENCE_SOURCE_UNUSABLE = (
        "Without evidence from the hardware nobody can tell this runtime from an impostor.",
        "Check [evidence] in the configuration, and that the device is there.",
    )
    RELEASE_DENIED = (
        "The model owner's policy does not allow this runtime to have the key.",
        "The reasons name what to change; `regalia policy explain` says what the policy wants.",
    )
    BROKER_LOG_MISMATCH = (
        "A release counts only if it stands in the log whose key is in the measured configuration.",
        "Check the broker's address, or the log key in the configuration.",
    )
    BROKER_REFUSED = (
        "The broker answered, and not with a key.",
        "Look at the broker's own log for the named code.",
    )
    RELEASE_RECORD_MISMATCH = (
        "A key counts only if the log says that it went to this runtime, for this model, now.",
        "Ask the broker's operator; the log's operator should look at the named record.",
    )
    RELEASED_KEY_UNUSABLE = (
        "The released key does not open with this runtime's key, or is not a model key.",
        "Ask the broker's operator; a relay in the path may have changed it.",
    )
    LEASE_LOST = (
        "A lease that is not renewed ends: keys and weights were wiped and serving stopped.",
        "Look at why the broker did not renew it, then start the runtime again.",
    )


class RequestCode(Code):
    """Refusals of single requests. Answered in OpenAI's error shape."""

    SEALED_PATH_ONLY = (
        "In clear, everybody between client and runtime could read the prompt.",
        "Use regalia.client or `regalia chat`, which verify the runtime and seal requests to it.",
    )
    REQUEST_REPLAYED = (
        "A sealed request is answered once; this one was answered before.",
        "Seal the request again.",
    )
    REQUEST_DATE_REFUSED = (
        "A sealed request carries a date, so that an old recording cannot be played again.",
        "Correct the clock of the client or of the runtime.",
    )
    REPLAY_MEMORY_FULL = (
        "The runtime remembers every request of the last minutes and can take no more.",
        "Send again in a few minutes.",
    )
    REQUEST_INVALID = (
        "A setting that the engine ignored could change what the answer means.",
        "Correct the named parameter.",
    )
    ROUTE_NOT_FOR_MODEL = (
        "A model either writes text or computes embeddings, and this one does the other.",
        "Ask a runtime that serves a model of the kind that you need.",
    )
    SERVED_NAME_UNKNOWN = (
        "This runtime serves one model.",
        "GET /v1/models says its name.",
    )
    SEALED_MEDIA_TYPE = (
        "The sealed path takes one kind of message only.",
        "Send chunked OHTTP, with its content type.",
    )
    SEALED_REQUEST_TIMEOUT = (
        "Requests that never end would fill this process's memory.",
        "Send the request again over a faster connection.",
    )
    QUEUE_FULL = (
        "Requests wait in a queue of limited length.",
        "Send the request again later.",
    )
    REQUEST_MEMORY_FULL = (
        "Requests that are in progress may hold a limited number of bytes together.",
        "Send the request again in a moment, or a smaller one.",
    )
    CALLER_UNKNOWN = (
        "This runtime answers callers whose keys its operator has listed.",
        "Send your key as a bearer token, or ask the operator to list its SHA-256.",
    )
    CALLER_BUSY = (
        "One caller may have a limited number of answers in progress, so that others have a share.",
        "Wait for one of your answers to end, then send the request again.",
    )
    ANSWER_NOT_READ = (
        "An answer that nobody takes would hold a place and memory that others wait for.",
        "Read answers as they come; ask for fewer tokens over a slow connection.",
    )
    ANSWER_TIMEOUT = (
        "An answer may take a limited time, so that no request holds its place for ever.",
        "Ask for fewer tokens, or send the request again when fewer others wait.",
    )
    NOT_SERVING = (
        "The runtime has no model: its lease ended, or its engine is being started again.",
        "Try another runtime, or this one after the seconds in Retry-After.",
    )
    TOO_MANY_CHALLENGES = (
        "Making evidence takes a while, and only a few clients may ask at once.",
        "Ask again in a moment.",
    )
    ROUTE_UNKNOWN = (
        "The runtime answers a short list of paths.",
        "docs/reference/configuration-runtime.md lists them.",
    )
    GENERATION_FAILED = (
        "The engine stopped in the middle of an answer; what arrived is not all of it.",
        "Send the request again; if it recurs, tell the operator the time of day.",
    )
