/** What a process has of the machine at a moment, from /proc. */
import { readdirSync, readFileSync } from 'node:fs'

export interface Usage {
  residentBytes: number
  /** The most that `residentBytes` ever was. */
  peakBytes: number
  descriptors: number
  threads: number
}

/** `null` where the process is gone. */
export function usageOf(pid: number): Usage | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0)
    return {
      residentBytes: field('VmRSS') * 1024,
      peakBytes: field('VmHWM') * 1024,
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      threads: field('Threads'),
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ESRCH') return null
    throw error
  }
}

/** The highest of what was seen of each. */
export function highest(a: Usage, b: Usage): Usage {
  return {
    residentBytes: Math.max(a.residentBytes, b.residentBytes),
    peakBytes: Math.max(a.peakBytes, b.peakBytes),
    descriptors: Math.max(a.descriptors, b.descriptors),
    threads: Math.max(a.threads, b.threads),
  }
}

export const noUsage: Usage = { residentBytes: 0, peakBytes: 0, descriptors: 0, threads: 0 }
