// @platformatic/kafka: speaks almost only the versions with flexible fields.
import { Admin, Consumer, Producer } from '@platformatic/kafka'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import zlib from 'node:zlib'

import * as scenario from './scenario.mjs'

const CLIENT = '@platformatic/kafka'
const library = createRequire(import.meta.url).resolve('@platformatic/kafka')
const VERSION = JSON.parse(readFileSync(join(dirname(library), '..', 'package.json'))).version

const { bootstrap, topic, stream } = scenario.parsed()
const common = { clientId: 'matrix', bootstrapBrokers: bootstrap, retries: 60, retryDelay: 500 }

async function using(client, work) {
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

const withAdmin = (work) => using(new Admin(common), work)
const withProducer = (work) => using(new Producer({ ...common, idempotent: true, acks: -1 }), work)

async function create() {
  const { PARTITIONS: partitions, REPLICATION: replicas } = scenario
  await withAdmin(async (admin) => {
    await admin.createTopics({ topics: [topic], partitions, replicas })
    await scenario.waitFor(async () => {
      const { topics } = await admin.metadata({ topics: [topic], forceUpdate: true })
      const found = topics.get(topic).partitions
      return found.length === partitions && found.every((p) => p.leader >= 0 && p.replicas.length === replicas)
    }, '3 partitions of 3 replicas have leaders')
  })
}

// Bytes as they are. No key here means null, and header names may be equal: two buffers are two keys of a map.
async function produce(codec, records) {
  const headers = new Map(scenario.HEADERS.map(([name, text]) => [Buffer.from(name), Buffer.from(text)]))
  const messages = records.map(({ partition, key, value }) => ({ topic, partition, key, value, headers }))
  await withProducer((producer) => producer.send({ compression: codec, messages }))
}

// A running member: what it has read, and what it is assigned.
async function member(groupId) {
  const consumer = new Consumer({ ...common, groupId, autocommit: false })
  const running = { consumer, got: [] }
  running.messages = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest', maxWaitTime: 200 })
  running.messages.on('data', ({ partition, key, value, headers }) => {
    const pairs = [...headers].map(([name, text]) => [name.toString(), text.toString()])
    running.got.push({ partition, key: key ?? null, value: value ?? null, headers: pairs })
  })
  running.messages.on('error', (error) => {
    running.error = error
  })
  running.assigned = () => (consumer.assignments ?? []).flatMap(({ partitions }) => partitions)
  running.close = async () => {
    await running.messages.close()
    await consumer.close(true)
  }
  return running
}

async function take(running, count) {
  await scenario.waitFor(() => {
    if (running.error) throw running.error
    return running.got.length >= count
  }, `${count} records were read`)
  return running.got
}

async function run() {
  const report = new scenario.Report(CLIENT, VERSION)
  const group = `${topic}-group`
  const partitions = [0, 1, 2]
  let sent = []
  let reader
  await report.step('create', create)
  for (const codec of scenario.CODECS) {
    if (codec === 'zstd' && !zlib.zstdCompressSync) {
      report.skip(codec, 'not in this version of Node')
      continue
    }
    await report.step(codec, async () => {
      await produce(codec, scenario.records(codec))
      sent = sent.concat(scenario.records(codec))
    })
  }
  await report.step('consume', async () => {
    reader = await member(group)
    scenario.compare(sent, await take(reader, sent.length))
  })
  await report.step('commit', async () => {
    const ends = scenario.byPartition(sent).map((records) => BigInt(records.length))
    const offsets = ends.map((offset, partition) => ({ topic, partition, offset, leaderEpoch: -1 }))
    await reader.consumer.commit({ offsets })
    const committed = await reader.consumer.listCommittedOffsets({ topics: [{ topic, partitions }] })
    scenario.same(committed.get(topic), ends, 'committed')
    await reader.close()
  })
  await report.step('resume', async () => {
    const more = scenario.records('none', scenario.RESUMED_RECORDS)
    await produce('none', more)
    const second = await member(group)
    scenario.compare(more, await take(second, more.length))
    await second.close()
    sent = sent.concat(more)
  })
  await report.step('rebalance', async () => {
    const [a, b] = await Promise.all([member(`${group}-two`), member(`${group}-two`)])
    await scenario.waitFor(() => scenario.shared(a.assigned(), b.assigned()), 'two members share 3 partitions')
    await Promise.all([a.close(), b.close()])
  })
  await report.step('offsets', async () => {
    const ends = scenario.byPartition(sent).map((records) => BigInt(records.length))
    await using(new Consumer({ ...common, groupId: 'none' }), async (consumer) => {
      const list = async (timestamp) => (await consumer.listOffsets({ topics: [topic], timestamp })).get(topic)
      scenario.same(await list(-2n), [0n, 0n, 0n], 'beginnings')
      scenario.same(await list(-1n), ends, 'ends')
      scenario.same(await list(1n), [0n, 0n, 0n], 'first since 1970')
    })
  })
  report.print()
}

// It gives up a batch whose leader died, and its sequence numbers are then of no use: what was refused is sent again by a new
// producer, as who uses it must do. So records may come twice.
async function long(count) {
  await create()
  const told = new scenario.Stream(CLIENT, VERSION, count)
  told.line.idempotent = false
  for (let i = 0; i < count; ) {
    await withProducer(async (producer) => {
      for (; i < count; i += 20) {
        const numbers = Array.from({ length: Math.min(20, count - i) }, (_, at) => i + at)
        const messages = numbers.map((number) => ({
          topic,
          partition: number % scenario.PARTITIONS,
          value: Buffer.from(`${number}`),
        }))
        await producer.send({ messages })
        told.ack(numbers)
        await told.pace(i)
      }
    }).catch(told.note)
  }
  const reader = await member(`${topic}-group`)
  await scenario.waitFor(() => reader.got.length >= told.acked.size, 'all were read').catch(told.note)
  // Duplicates would come after what is awaited.
  await scenario.sleep(1000)
  await reader.close()
  told.print(reader.got.map(({ value }) => Number(value)))
}

await (stream ? long(stream) : run())
