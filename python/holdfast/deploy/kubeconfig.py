"""How to reach a real cluster: by a kubeconfig, or from within one of its pods. kubernetes_asyncio reads them, in all their forms."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import ssl
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Callable, Optional, Union

from holdfast.deploy.api import Access
from holdfast.deploy.errors import DeployError

# Seconds after which credentials are read again: plugins and service accounts renew theirs.
_FRESH = 60.0
_READ = 60.0


class BadAccess(DeployError):
    """There is no kubeconfig, or it cannot be used."""


def access_from(file: Union[str, os.PathLike[str], None] = None, context: Optional[str] = None) -> Access:
    """`file`: else $KUBECONFIG, else ~/.kube/config; where none of them is there, and this is a pod, its service account. `context`:
    else the file's own. Credentials are read again when they may have been renewed. Blocks; raises BadAccess."""
    path = str(file or os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
    if file is None and not any(Path(part).exists() for part in path.split(os.pathsep)) and "KUBERNETES_SERVICE_HOST" in os.environ:
        return _made(_in_pod, "the service account of this pod")
    if not any(Path(part).exists() for part in path.split(os.pathsep)):
        raise BadAccess(f"there is no kubeconfig {path}; give one by --kubeconfig or KUBECONFIG")

    async def load() -> Any:
        from kubernetes_asyncio import config

        found = _configuration()
        await config.load_kube_config(config_file=path, context=context, client_configuration=found, persist_config=False)
        return found

    return _made(load, f"{path}{f', context {context}' if context else ''}")


async def _in_pod() -> Any:
    from kubernetes_asyncio import config

    found = _configuration()
    loading: Any = config.load_incluster_config
    loading(client_configuration=found)
    return found


def _configuration() -> Any:
    from kubernetes_asyncio.client import Configuration

    return Configuration()


def _made(load: Callable[[], Awaitable[Any]], source: str) -> Access:
    found = _read(load, source)
    if found.proxy:
        raise BadAccess(f"{source}: reached by a proxy ({found.proxy}), which this does not do")
    if found.tls_server_name:
        raise BadAccess(f"{source}: its certificate has another name ({found.tls_server_name}), which this does not do")
    return Access(str(found.host).rstrip("/"), _Token(load, found, source), _tls(found, source), source)


def _read(load: Callable[[], Awaitable[Any]], source: str) -> Any:
    """In a thread, since a loop may be running here."""

    async def limited() -> Any:
        return await asyncio.wait_for(load(), _READ)

    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        try:
            return thread.submit(lambda: asyncio.run(limited())).result()
        except ImportError as problem:
            raise BadAccess(f"a real cluster needs {problem.name}: pip install 'holdfast[deploy]'") from None
        except Exception as problem:  # Many kinds, from many libraries: of files, YAML, plugins.
            raise _bad(problem, source) from None


def _bad(problem: Exception, source: str) -> BadAccess:
    return BadAccess(f"{source} cannot be used: {str(problem).strip() or type(problem).__name__}")


def _tls(found: Any, source: str) -> Optional[ssl.SSLContext]:
    if not str(found.host).startswith("https:"):
        return None
    try:
        context = ssl.create_default_context(cafile=found.ssl_ca_cert or None)
        if found.cert_file:
            context.load_cert_chain(found.cert_file, found.key_file or None)
    except (OSError, ssl.SSLError) as problem:
        raise _bad(problem, source) from None
    if not found.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # As clusters' own clients do: many of their CAs lack extensions that the strict mode wants.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


class _Token:
    """What a request says who it is by; empty where a certificate does."""

    def __init__(self, load: Callable[[], Awaitable[Any]], found: Any, source: str) -> None:
        self._load, self._source = load, source
        self._found, self._at = found, time.monotonic()

    async def __call__(self) -> str:
        if time.monotonic() - self._at > _FRESH:
            try:
                self._found = await asyncio.wait_for(self._load(), _READ)
            except Exception as problem:
                raise _bad(problem, self._source) from None
            self._at = time.monotonic()
        key = await self._found.get_api_key_with_prefix("BearerToken")
        return str(key or "").removeprefix("Bearer ")
