"""Which of LiteLLM's kinds of providers speak OpenAI's API, and where.

One table: a kind is the first part of `provider/model`. Those that are not in it speak a protocol of their own, which
this gateway does not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of provider: its API's address and the variable with its key, where LiteLLM knows them by itself."""

    base_url: str | None = None
    variable: str | None = None
    auth_header: str = "bearer"
    suffix: str = ""
    """What has to be added to an `api_base`, which for this kind is only the server."""
    remark: str = ""


_GIVEN: Final = Kind()
_AZURE: Final = Kind(
    None,
    "AZURE_API_KEY",
    "api-key",
    "/openai/v1",
    "became Azure's v1 API, which takes the deployment's name as the model and no `api_version`: try one request",
)
KINDS: Final[Mapping[str, Kind]] = {
    "openai": Kind("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "azure": _AZURE,
    "azure_ai": Kind(None, "AZURE_AI_API_KEY", "api-key", "/openai/v1", _AZURE.remark),
    "anthropic": Kind(
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        remark="goes to Anthropic's OpenAI-compatible API: features of its own API alone (such as cache_control) are "
        "not there",
    ),
    "gemini": Kind(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        remark="goes to Gemini's OpenAI-compatible API",
    ),
    "cerebras": Kind("https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "deepinfra": Kind("https://api.deepinfra.com/v1/openai", "DEEPINFRA_API_KEY"),
    "deepseek": Kind("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "fireworks_ai": Kind("https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "groq": Kind("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Kind("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "moonshot": Kind("https://api.moonshot.ai/v1", "MOONSHOT_API_KEY"),
    "nvidia_nim": Kind("https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "openrouter": Kind("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "perplexity": Kind("https://api.perplexity.ai", "PERPLEXITYAI_API_KEY"),
    "sambanova": Kind("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    "together_ai": Kind("https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "xai": Kind("https://api.x.ai/v1", "XAI_API_KEY"),
    "ollama": Kind("http://localhost:11434/v1", suffix="/v1"),
    "ollama_chat": Kind("http://localhost:11434/v1", suffix="/v1"),
    "custom_openai": _GIVEN,
    "hosted_vllm": _GIVEN,
    "litellm_proxy": _GIVEN,
    "llamafile": _GIVEN,
    "lm_studio": _GIVEN,
    "openai_like": _GIVEN,
    "vllm": _GIVEN,
    "xinference": _GIVEN,
}
FOREIGN: Final = frozenset(
    {
        *("ai21", "aleph_alpha", "aws_polly", "baseten", "bedrock", "clarifai", "cloudflare", "codestral", "cohere"),
        *("cohere_chat", "databricks", "elevenlabs", "github", "github_copilot", "huggingface", "infinity", "jina_ai"),
        *("maritalk", "nlp_cloud", "oobabooga", "palm", "petals", "predibase", "replicate", "sagemaker"),
        *("sagemaker_chat", "snowflake", "text-completion-codestral", "text-completion-openai", "triton", "vertex_ai"),
        *("vertex_ai_beta", "voyage", "watsonx", "watsonx_text", "bedrock_converse", "azure_text", "assemblyai"),
    }
)
"""Kinds that would otherwise be taken for the first part of a model's own name."""
