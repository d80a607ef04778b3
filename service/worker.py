"""What is changed in Ray Serve's worker processes, before its modules are used there.

Ray runs ``apply`` at the start of every worker process of this service
(``worker_process_setup_hook``); what it is to do arrives in the environment, which all of them
inherit. Serve 2.60 has no option for any of it; integration tests look at what comes of it, so a
Ray that behaves otherwise is noticed.
"""

from __future__ import annotations

import os

from service import loopback, no_application, own_ports, shedding

#: Where the two front doors are; nothing else is bound beyond loopback.
FRONT_HOST = "OODGATE_FRONT_HOST"
FRONT_GRPC_PORT = "OODGATE_FRONT_GRPC_PORT"
#: Certificate chain and key in one file, for HAProxy's front ends.
TLS_PEM = "OODGATE_TLS_PEM"
#: What HAProxy answers itself, where no replica can.
ERROR_FILE = "OODGATE_ERROR_FILE"

_HTTP_BIND = "bind {{ config.frontend_host }}:{{ config.frontend_port }}"
_GRPC_BIND = "bind {{ config.grpc_frontend_host }}:{{ config.grpc_frontend_port }} proto h2"

#: HAProxy waits for a body as far as it fits its buffer: a stalled one takes no replica's place.
_HTTP_FRONT = "frontend http_frontend\n"
_WHOLE_REQUESTS = "    option http-buffer-request\n    timeout http-request 10s\n"

_FRONT_HOSTS = ("bind {{ config.frontend_host }}:", "bind {{ config.grpc_frontend_host }}:")


def apply() -> None:
    """In a Ray worker process."""
    own_ports.insist()
    if host := os.environ.get(FRONT_HOST):
        loopback.narrow_grpc(host, os.environ[FRONT_GRPC_PORT])
    if os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1":
        _rewrite_haproxy()
    no_application.in_python_proxies()


def _rewrite_haproxy() -> None:
    from ray.serve._private import haproxy_templates as templates

    templates.HAPROXY_CONFIG_TEMPLATE = rewritten(templates.HAPROXY_CONFIG_TEMPLATE, os.environ)


def rewritten(template: str, environment: os._Environ[str] | dict[str, str]) -> str:
    """HAProxy's configuration with TLS, own error answers and narrower binds, as is asked for."""
    if pem := environment.get(TLS_PEM):
        template = template.replace(
            f"{_HTTP_BIND}\n", f"{_HTTP_BIND} ssl crt {pem} alpn h2,http/1.1\n"
        )
        template = template.replace(f"{_GRPC_BIND}\n", f"{_GRPC_BIND} ssl crt {pem} alpn h2\n")
    template = template.replace(_HTTP_FRONT, _HTTP_FRONT + _WHOLE_REQUESTS)
    if host := environment.get(FRONT_HOST):
        template = loopback.narrowed_haproxy(template)
        for front in _FRONT_HOSTS:
            template = template.replace(front, f"bind {host}:")
    if errors := environment.get(ERROR_FILE):
        for status in (502, 503, 504):
            template = template.replace(
                f"errorfile {status} {{{{ config.error_file_path }}}}",
                f"errorfile {status} {errors}",
            )
        template = no_application.in_haproxy(template)
    if admitted := environment.get(shedding.ADMITTED):
        template = shedding.in_haproxy(template, admitted)
    return template
