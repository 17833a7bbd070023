/** What goes wrong with single hosts for an hour, and what the server must say of them then. */
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { BreakingProxy } from '../harness/proxy.ts'
import type { Random } from '../harness/random.ts'
import type { HostEnd, TestHost } from '../harness/site.ts'
import type { Fleet } from './fleet.ts'
import { SlowLine } from './slow-line.ts'

export const troubles = ['down', 'slow', 'wrong-password', 'cut', 'killed'] as const
export type Trouble = (typeof troubles)[number]

/** Of the hosts, in each hour. */
const share = 0.1

/** More than the handshake: the line breaks in the middle of a session. */
const cutAfterBytes = 4000

/** A trouble of a host for one hour. `undo` ends it. */
export interface Troubled {
  host: TestHost
  trouble: Trouble
  undo(): Promise<void> | void
}

/** Chooses hosts and does it to them. Only a process of its own can be killed. */
export async function makeTrouble(fleet: Fleet, random: Random): Promise<Map<TestHost, Troubled>> {
  const troubled = new Map<TestHost, Troubled>()
  const count = Math.max(1, Math.round(share * fleet.hosts.length))
  for (let number = 0; number < count; number++) {
    const host = random.of(fleet.hosts)
    const trouble = random.of(troubles)
    if (troubled.has(host) || (trouble === 'killed' && !fleet.real.has(host))) continue
    troubled.set(host, { host, trouble, undo: await begin(fleet, host, trouble) })
  }
  return troubled
}

async function begin(fleet: Fleet, host: TestHost, trouble: Trouble): Promise<Troubled['undo']> {
  const port = fleet.portOf(host)
  const dialAgain = () => host.setPort(port)
  switch (trouble) {
    case 'down': {
      host.setPort(await freePort())
      return dialAgain
    }
    case 'slow': {
      const line = await SlowLine.start(port)
      host.setPort(line.port)
      return () => {
        line[Symbol.dispose]()
        dialAgain()
      }
    }
    case 'cut': {
      const proxy = await BreakingProxy.start(port)
      void proxy.arm({ direction: 'fromAgent', afterBytes: cutAfterBytes, what: 'cut' })
      host.setPort(proxy.port)
      return () => {
        proxy[Symbol.dispose]()
        dialAgain()
      }
    }
    case 'wrong-password': {
      const password = readFileSync(host.secret)
      writeFileSync(host.secret, 'not the password\n')
      return () => writeFileSync(host.secret, password)
    }
    case 'killed': {
      await host.stop('SIGKILL')
      return async () => {
        await host.start()
      }
    }
  }
}

/** What is wrong with the end of a host's run; `null` where it is what it has to be. */
export function faultOfEnd(end: HostEnd | undefined, trouble: Trouble | null): string | null {
  if (end === undefined) return 'there was no end of a run'
  const { outcome, error } = end
  const found = `${outcome}${error === null ? '' : `, ${error.code}: ${error.message}`}`
  const isGood = {
    down: error?.code === 'connection-refused',
    killed: error?.code === 'connection-refused',
    'wrong-password': error?.code === 'authentication-failed',
    // What is small enough may have come through.
    cut: outcome === 'complete' || error?.code === 'connection-lost',
    slow: outcome === 'complete',
    none: outcome === 'complete',
  }[trouble ?? 'none']
  return isGood ? null : `${trouble ?? 'no trouble'}: ${found}`
}

/** A port of loopback on which nobody listens. */
async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}
