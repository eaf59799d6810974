// The faults: not written yet.

export function mountChaos() {}
