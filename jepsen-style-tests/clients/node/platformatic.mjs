// @platformatic/kafka: speaks almost only the versions with flexible fields.
import { Admin, Consumer, Producer } from '@platformatic/kafka'
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import zlib from 'node:zlib'

import { main } from './matrix.mjs'
import * as scenario from './scenario.mjs'

const CLIENT = '@platformatic/kafka'
const library = createRequire(import.meta.url).resolve('@platformatic/kafka')
const VERSION = JSON.parse(readFileSync(join(dirname(library), '..', 'package.json'))).version

const { bootstrap, topic } = scenario.parsed()
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

const numbers = (offsets) => offsets.map(Number)

async function commit(reader, group, ends) {
  const offsets = ends.map((end, partition) => ({ topic, partition, offset: BigInt(end), leaderEpoch: -1 }))
  await reader.consumer.commit({ offsets })
  const committed = await reader.consumer.listCommittedOffsets({ topics: [{ topic, partitions: [0, 1, 2] }] })
  await reader.close()
  return numbers(committed.get(topic))
}

async function offsets() {
  return using(new Consumer({ ...common, groupId: 'none' }), async (consumer) => {
    const list = async (timestamp) => numbers((await consumer.listOffsets({ topics: [topic], timestamp })).get(topic))
    return [await list(-2n), await list(-1n), await list(1n)]
  })
}

// It gives up a batch whose leader died, and its sequence numbers are then of no use: what was refused is sent again by a new
// producer, as who uses it must do. So records may come twice.
async function send(told) {
  for (let i = 0; i < told.count; ) {
    await withProducer(async (producer) => {
      for (; i < told.count; i += 20) {
        const sent = Array.from({ length: Math.min(20, told.count - i) }, (_, at) => i + at)
        const messages = sent.map((number) => ({
          topic,
          partition: number % scenario.PARTITIONS,
          value: Buffer.from(`${number}`),
        }))
        await producer.send({ messages })
        told.ack(sent)
        await told.pace(i)
      }
    }).catch(told.note)
  }
}

const cannot = zlib.zstdCompressSync ? {} : { zstd: 'not in this version of Node' }
await main({ name: CLIENT, version: VERSION, idempotent: false, cannot, create, produce, member, commit, offsets, send })
