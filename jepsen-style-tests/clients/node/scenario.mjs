// What every client is asked to do, and how it is judged (see ../README.md).
import assert from 'node:assert'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

export const PARTITIONS = 3
export const REPLICATION = 3
export const RECORDS_PER_CODEC = 12
export const RESUMED_RECORDS = 6
export const CODECS = ['none', 'gzip', 'snappy', 'lz4', 'zstd']
export const WAIT_MS = 40_000
const STREAM_MS = 1000 * (process.env.STREAM_SECONDS ?? 8)
export { sleep }

// One key twice: a client or a broker that keeps headers in a map loses one of them.
export const HEADERS = [['trace', 'a'], ['trace', 'b'], ['empty', '']]

// The records sent with one codec: with and without key, with and without value, every byte.
export function records(codec, count = RECORDS_PER_CODEC) {
  const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))
  return Array.from({ length: count }, (_, i) => ({
    partition: i % PARTITIONS,
    key: i % 4 === 1 || i % 4 === 3 ? null : Buffer.from(`${codec}-${i}`),
    value:
      i % 4 === 2 || i % 4 === 3
        ? null
        : Buffer.concat([Buffer.from(`${codec} ${i} `), everyByte, Buffer.alloc(100 * i, 'x')]),
    headers: HEADERS,
  }))
}

export function byPartition(sent) {
  return Array.from({ length: PARTITIONS }, (_, p) => sent.filter((record) => record.partition === p))
}

// Complains about the first difference between what was sent and what was read.
export function compare(sent, got) {
  for (const [p, expected] of byPartition(sent).entries()) {
    const found = got.filter((record) => record.partition === p)
    for (const [at, record] of expected.slice(0, found.length).entries()) {
      assert.deepStrictEqual(found[at], record, `partition ${p}, record ${at}: sent ${short(record)}, read ${short(found[at])}`)
    }
    assert.strictEqual(found.length, expected.length, `partition ${p}: sent ${expected.length}, read ${found.length}`)
  }
}

function short({ key, value, headers }) {
  return `key ${key} value ${value && value.subarray(0, 20)} headers ${JSON.stringify(headers)}`
}

export async function waitFor(condition, what, ms = WAIT_MS) {
  const until = Date.now() + ms
  for (;;) {
    const result = await condition()
    if (result) return result
    assert(Date.now() < until, `after ${ms} ms not yet: ${what}`)
    await sleep(50)
  }
}

export function same(found, expected, what) {
  assert.deepStrictEqual(found, expected, `${what}: ${found}, not ${expected}`)
}

// Whether two members have some each, none both, and together all partitions.
export function shared(a, b) {
  return a.length > 0 && b.length > 0 && a.length + b.length === PARTITIONS && new Set([...a, ...b]).size === PARTITIONS
}

// An error with those that it wraps.
function whole(error) {
  const inner = [...(error.errors ?? []), ...(error.cause ? [error.cause] : [])].map(whole)
  return `${error.name}: ${[error.message, ...inner].join('; ')}`.slice(0, 1000)
}

// Collects what each step came to; an exception in one is written down, and the next one is tried.
export class Report {
  constructor(client, version) {
    this.line = { client, version, steps: {} }
  }

  async step(name, work) {
    process.stderr.write(`${name}\n`)
    try {
      await work()
      this.line.steps[name] = 'ok'
    } catch (error) {
      this.line.steps[name] = whole(error)
    }
  }

  skip(name, why) {
    this.line.steps[name] = `- ${why}`
  }

  print() {
    console.log(JSON.stringify(this.line))
  }
}

// The long run: what was acknowledged, at which pace, and whether it came back once each.
export class Stream {
  constructor(client, version, idempotent, count) {
    this.line = { client, version, idempotent, refused: 0 }
    this.count = count
    this.acked = new Set()
    this.began = Date.now()
  }

  // Holds record `i` back, so that the run takes long enough for a broker to die in it.
  async pace(i) {
    await sleep(Math.max(0, this.began + (STREAM_MS * i) / this.count - Date.now()))
  }

  // These are acknowledged. After a third of all the driver is told to kill.
  ack(numbers) {
    numbers.forEach((i) => this.acked.add(i))
    if (this.acked.size >= this.count / 3 && !this.announced) {
      this.announced = true
      console.log('a third is acknowledged')
    }
  }

  // The client gave records up: not lost, since it said so, but a client should not.
  refuse(numbers, error) {
    this.line.refused += numbers.length
    this.line.refusal = whole(error)
  }

  // What else went wrong, beside the judgement.
  note = (error) => {
    this.line.note = whole(error)
  }

  // `got`: the numbers that were read at the end, as often as they came.
  print(got) {
    const read = new Set(got)
    Object.assign(this.line, {
      sent: this.count,
      acked: this.acked.size,
      missing: [...this.acked].filter((i) => !read.has(i)).length,
      duplicates: got.length - read.size,
    })
    console.log(JSON.stringify(this.line))
  }
}

// BOOTSTRAP TOPIC [--stream N], the same for every client.
export function parsed() {
  const { values, positionals } = parseArgs({ options: { stream: { type: 'string' } }, allowPositionals: true })
  const [bootstrap, topic] = positionals
  return { bootstrap: bootstrap.split(','), topic, stream: Number(values.stream ?? 0) }
}
