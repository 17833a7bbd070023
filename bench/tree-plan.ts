/** What generated trees consist of: decided from a fixed seed, before anything is written. */
import { Random } from '../test/harness/random.ts'
import type { ContentKind } from './contents.ts'

export const treeNames = ['small', 'large', 'million'] as const
export type TreeName = (typeof treeNames)[number]

export interface PlannedFile {
  /** Relative to the tree. */
  path: string
  bytes: number
  /** `halves`: 1 MiB of text and 1 MiB that does not compress, in turn. */
  kind: ContentKind | 'halves'
}

export interface TreePlan {
  /** Every folder stands after the one that it is in. */
  folders: string[]
  files: PlannedFile[]
  links: { path: string; target: string }[]
  /** Folders that together hold everything, about the same in each. Empty where the tree is too small for it. */
  parts: string[]
}

/** The file of 10,000 bytes that every tree has. It comes back alone where a single file is restored. */
export const singleFileName = 'ten-kilobytes.txt'
export const singleFileBytes = 10_000

const smallFiles = 65_000
const smallBytes = 600e6
const largeBytes = 2 ** 31
const millionFiles = 1_000_000

/** Shares of files and how large the largest of them is: measured in /usr/share of a Debian machine. */
const sizeQuantiles: readonly (readonly [number, number])[] = [
  [0, 12],
  [0.01, 55],
  [0.05, 229],
  [0.1, 379],
  [0.25, 694],
  [0.5, 1286],
  [0.75, 2781],
  [0.9, 11_989],
  [0.95, 31_073],
  [0.99, 161_680],
  [0.999, 790_291],
  [1, 8_417_971],
]

const extensions: Readonly<Record<ContentKind, readonly string[]>> = {
  text: ['', '.txt', '.rst', '.html', '.pl', '.xml', '.conf'],
  compressed: ['.gz', '.gz', '.gz', '.png'],
  records: ['.mo', '.dat', '.so'],
}

/** `scale` 0.01 makes a hundredth of it: of the files, or of the bytes of the large one. */
export function planTree(name: TreeName, scale: number): TreePlan {
  if (name === 'small') return planShare(Math.ceil(smallFiles * scale), smallBytes * scale)
  if (name === 'large') return planLarge(Math.ceil(largeBytes * scale))
  return planMany(Math.ceil(millionFiles * scale))
}

/** Many small files of a few hundred bytes, a thousand in each folder; the last one is the single file. */
export function planMany(count: number): TreePlan {
  const random = new Random(3)
  const plan: TreePlan = { folders: [], files: [], links: [], parts: [] }
  for (let index = 0; index < count - 1; index++) {
    const folder = `folder-${String(Math.floor(index / 1000)).padStart(4, '0')}`
    if (index % 1000 === 0) plan.folders.push(folder)
    plan.files.push({ path: `${folder}/file-${index}`, bytes: 50 + random.below(400), kind: 'text' })
  }
  plan.files.push({ path: singleFileName, bytes: singleFileBytes, kind: 'text' })
  return plan
}

/** One large file, and the single one. */
function planLarge(bytes: number): TreePlan {
  const files: PlannedFile[] = [
    { path: 'large.img', bytes, kind: 'halves' },
    { path: singleFileName, bytes: singleFileBytes, kind: 'text' },
  ]
  return { folders: [], files, links: [], parts: [] }
}

/** Folders and files like those of /usr/share: deep and flat, many small ones, a few large ones, some links. */
function planShare(count: number, totalBytes: number): TreePlan {
  const random = new Random(2)
  const parts = ['part-0', 'part-1', 'part-2', 'part-3']
  const plan: TreePlan = { folders: [...parts], files: [], links: [], parts }
  const foldersOfParts = parts.map((part) => planFolders(part, Math.ceil(count / 85), random))
  for (const folders of foldersOfParts) plan.folders.push(...folders.slice(1))
  for (let index = 0; index < count; index++) {
    const folders = foldersOfParts[index % parts.length]!
    // The first folders have many files, most have a few.
    const folder = folders[Math.floor(folders.length * random.next() ** 3)]!
    const bytes = sizeAt(random.next())
    const kind = chooseKind(bytes, random)
    const path = `${folder}/${nameOf(random)}-${index}${random.of(extensions[kind])}`
    plan.files.push({ path, bytes, kind })
    if (index % 13 === 0) plan.links.push({ path: `${path}.link`, target: path.split('/').at(-1)! })
  }
  const total = plan.files.reduce((sum, file) => sum + file.bytes, 0)
  for (const file of plan.files) file.bytes = Math.round((file.bytes * totalBytes) / total)
  plan.files.push({ path: `part-2/${singleFileName}`, bytes: singleFileBytes, kind: 'text' })
  return plan
}

function planFolders(root: string, count: number, random: Random): string[] {
  const folders = [root]
  while (folders.length < count) {
    const parent = random.of(folders)
    if (parent.split('/').length < 10) folders.push(`${parent}/${nameOf(random)}-${folders.length}`)
  }
  return folders
}

/** Half of the small files do not compress, as packed manual pages and icons; of larger ones, a fifth. */
function chooseKind(bytes: number, random: Random): ContentKind {
  const choice = random.next()
  if (choice < (bytes < 10_000 ? 0.5 : 0.2)) return 'compressed'
  return choice < 0.85 ? 'text' : 'records'
}

function nameOf(random: Random): string {
  const letter = () => String.fromCharCode(97 + random.below(26))
  return Array.from({ length: 3 + random.below(12) }, letter).join('')
}

/** Between two quantiles, sizes grow by the same factor for the same step. */
function sizeAt(share: number): number {
  const upper = sizeQuantiles.findIndex(([quantile]) => quantile > share)
  const [fromShare, fromBytes] = sizeQuantiles[upper - 1]!
  const [toShare, toBytes] = sizeQuantiles[upper]!
  return fromBytes * (toBytes / fromBytes) ** ((share - fromShare) / (toShare - fromShare))
}
