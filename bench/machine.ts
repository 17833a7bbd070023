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
    fileSystem: outputOf(['df', '--output=fstype', folder])?.split('\n')[1] ?? 'unknown',
  }
}

/** Of what is installed, and of ours, with the commit where it is a checkout of git. */
export function readVersions(checkout: string): Record<string, string> {
  const { version } = JSON.parse(readFileSync(`${checkout}/package.json`, 'utf8')) as { version: string }
  const commit = outputOf(['git', '-C', checkout, 'describe', '--always', '--dirty'])
  const others = Object.entries(versionCommands).flatMap(([program, command]) => {
    const output = outputOf(command)
    return output === null ? [] : [[program, /\d+(\.\w+)+/.exec(output)?.[0] ?? output] as const]
  })
  const ours = commit === null ? version : `${version} (${commit.trim()})`
  return { ours, node: process.versions.node, ...Object.fromEntries(others) }
}

export function isInstalled(program: string): boolean {
  return outputOf(['sh', '-c', `command -v ${program}`]) !== null
}

/** What it prints on either stream; `null` where it fails. */
function outputOf([program, ...args]: readonly string[]): string | null {
  const { stdout, stderr, status } = spawnSync(program!, args, { encoding: 'utf8' })
  return status === 0 ? `${stdout}${stderr}` : null
}
