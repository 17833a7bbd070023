/** Clocks of a machine and of its past self may differ by so much: a run that lies further ahead is one from the future. */
export const clockToleranceMs = 10 * 60_000
