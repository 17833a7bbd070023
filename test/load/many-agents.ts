/**
 * Many agents in one process, each with settings, certificate and password of its own: `node many-agents.ts FILE`, where
 * FILE is a JSON list of settings files. Sends the ports, by the names of the hosts, once all listen. Ends at SIGTERM, or
 * when its parent is gone.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { serve } from '../../packages/host-agent/src/serve.ts'
import { readSettings } from '../../packages/host-agent/src/settings.ts'

const listenMsMax = 60_000

const files = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as string[]
// Each agent listens for signals.
process.setMaxListeners(0)
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
const agents = files.map((file) => readSettings(file))
const serving = Promise.all(agents.map((settings) => serve(settings)))
const ports: Record<string, number> = {}
for (const { name, log } of agents) ports[name] = await portIn(log.file!)
process.send!(ports)
await serving

/** An agent tells of its port in its log only. */
async function portIn(log: string): Promise<number> {
  const deadlineMs = performance.now() + listenMsMax
  for (;;) {
    const found = / listens on [^"]*:(\d+)"/.exec(readFileSync(log, 'utf8'))
    if (found !== null) return Number(found[1])
    if (performance.now() > deadlineMs) throw new Error(`the agent of ${log} does not listen`)
    await delay(20)
  }
}
