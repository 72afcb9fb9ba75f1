"""How long messages wait for those before them, on a link that is busy part of the time."""

from __future__ import annotations


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
