/** On what a bench was run, and with what. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'

export interface Machine {
  cpu: string
  cores: number
  memoryBytes: number
  kernel: string
  system: string
  /** Of the folder in which trees and backups are. */
  fileSystem: string
}

/** Program → how to ask it for its version. */
const versionCommands: Readonly<Record<string, readonly string[]>> = {
  tar: ['tar', '--version'],
  zstd: ['zstd', '--version'],
  ssh: ['ssh', '-V'],
  rsync: ['rsync', '--version'],
  borg: ['borg', '--version'],
  restic: ['restic', 'version'],
}

export function describeMachine(folder: string): Machine {
  const processors = cpus()
  return {
    cpu: processors[0]?.model ?? 'unknown',
    cores: processors.length,
    memoryBytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="(.*)"$/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? 'Linux',
    fileSystem: firstLine(['stat', '-f', '-c', '%T', folder]) ?? 'unknown',
  }
}

/** Of what is installed, and of ours, with the commit where it is a checkout of git. */
export function readVersions(checkout: string): Record<string, string> {
  const { version } = JSON.parse(readFileSync(`${checkout}/package.json`, 'utf8')) as { version: string }
  const commit = firstLine(['git', '-C', checkout, 'describe', '--always', '--dirty'])
  const others = Object.entries(versionCommands).flatMap(([program, command]) => {
    const line = firstLine(command)
    return line === null ? [] : [[program, line] as const]
  })
  const ours = commit === null ? version : `${version} (${commit})`
  return { ours, node: process.version, ...Object.fromEntries(others) }
}

export function isInstalled(program: string): boolean {
  return firstLine(['sh', '-c', `command -v ${program}`]) !== null
}

function firstLine([program, ...args]: readonly string[]): string | null {
  const { stdout, stderr, status } = spawnSync(program!, args, { encoding: 'utf8' })
  if (status !== 0) return null
  return `${stdout}${stderr}`.split('\n')[0]!.trim()
}
