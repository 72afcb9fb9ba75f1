"""How long those who come wait for those before them: messages at a link, requests at servers."""

from __future__ import annotations

import math

from scipy.special import gammaincc, gammaln


def kingman(utilisation: float, service: float, arrivals_cv2: float, service_cv2: float) -> float:
    """The mean wait at a single server, s; exact for Poisson arrivals.

    service: s, the mean time that a message occupies the server. arrivals_cv2, service_cv2: the
    squared coefficients of variation of the times between arrivals and of the service.
    Sources: Kingman, Mathematical Proceedings of the Cambridge Philosophical Society 57 (1961);
    for Poisson arrivals the formula of Pollaczek and Khinchine.
    """
    if not 0.0 <= utilisation < 1.0:
        raise ValueError(f"utilisation must be from 0 and below 1, not {utilisation}")
    return utilisation / (1.0 - utilisation) * 0.5 * (arrivals_cv2 + service_cv2) * service


def wait(
    queue: str, utilisation: float, service: float, arrival_cv: float, service_cv: float
) -> float:
    """The mean wait in a queue of a name, s; the coefficients of variation are Kingman's."""
    if queue == "kingman":
        return kingman(utilisation, service, arrival_cv**2, service_cv**2)
    return {"m/m/1": m_m_1, "m/d/1": m_d_1}[queue](utilisation, service)


def m_m_1(utilisation: float, service: float) -> float:
    """The mean wait with Poisson arrivals and exponential service, s."""
    return kingman(utilisation, service, 1.0, 1.0)


def m_d_1(utilisation: float, service: float) -> float:
    """The mean wait with Poisson arrivals of messages of one size, s."""
    return kingman(utilisation, service, 1.0, 0.0)


def erlang_c(servers: float, utilisation: float) -> float:
    """The probability that somebody who comes has to wait: Poisson arrivals, exponential service.

    utilisation: of each server. By Erlang's B as a ratio of incomplete gamma functions, so that
    millions of servers are as quick as one. Source: Erlang 1917; Cooper, Introduction to Queueing
    Theory, 1981, section 3.4.
    """
    if not 0.0 <= utilisation < 1.0:
        raise ValueError(f"utilisation must be from 0 and below 1, not {utilisation}")
    if utilisation == 0.0:
        return 0.0
    offered = servers * utilisation
    last = math.exp(servers * math.log(offered) - offered - gammaln(servers + 1.0))
    blocked = last / float(gammaincc(servers + 1.0, offered))
    return blocked / (1.0 - utilisation * (1.0 - blocked))


def m_g_c(servers: float, utilisation: float, service: float, service_cv2: float) -> float:
    """The mean wait for one of several servers with Poisson arrivals, s; exact for M/M/c and M/G/1.

    Source: Lee & Longton 1959, as Allen & Cunneen give it: Allen, Probability, Statistics and
    Queueing Theory, 1990, section 5.3.
    """
    waiting = erlang_c(servers, utilisation)
    return waiting * service / (servers * (1.0 - utilisation)) * 0.5 * (1.0 + service_cv2)
