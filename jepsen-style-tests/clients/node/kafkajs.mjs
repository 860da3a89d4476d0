// KafkaJS: the versions of before flexible fields, and the most used one in Node.
import { createRequire } from 'node:module'

import kafkajs from 'kafkajs'

import * as scenario from './scenario.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
const require = createRequire(import.meta.url)
const CLIENT = 'kafkajs'
const VERSION = require('kafkajs/package.json').version
// It has gzip; these come with packages of their own.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
const LZ4 = require('kafkajs-lz4')
CompressionCodecs[CompressionTypes.LZ4] = new LZ4().codec
const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4' }

const { bootstrap, topic, stream } = scenario.parsed()
const kafka = new Kafka({
  clientId: 'matrix',
  brokers: bootstrap,
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 200, maxRetryTime: 2000, retries: 30 },
})

async function withAdmin(work) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await work(admin)
  } finally {
    await admin.disconnect()
  }
}

async function create() {
  await withAdmin(async (admin) => {
    const { PARTITIONS: numPartitions, REPLICATION: replicationFactor } = scenario
    await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor }], waitForLeaders: true })
    await scenario.waitFor(async () => {
      const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
      const { partitions } = topics[0]
      return partitions.length === numPartitions && partitions.every((p) => p.leader >= 0 && p.replicas.length === 3)
    }, '3 partitions of 3 replicas have leaders')
  })
}

async function withProducer(work) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  try {
    return await work(producer)
  } finally {
    await producer.disconnect()
  }
}

// Headers with one key twice are an array here.
function toHeaders(pairs) {
  const grouped = {}
  for (const [name, text] of pairs) (grouped[name] ??= []).push(text)
  return Object.fromEntries(Object.entries(grouped).map(([name, all]) => [name, all.length > 1 ? all : all[0]]))
}

function fromHeaders(headers) {
  return Object.entries(headers).flatMap(([name, texts]) => [texts].flat().map((text) => [name, text.toString()]))
}

async function produce(codec, records) {
  await withProducer((producer) =>
    producer.send({
      topic,
      compression: CompressionTypes[CODECS[codec]],
      messages: records.map((record) => ({ ...record, headers: toHeaders(record.headers) })),
    })
  )
}

// A running member: what it has read, and what it is assigned.
async function member(groupId) {
  const consumer = kafka.consumer({ groupId })
  const running = { consumer, got: [], assigned: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    running.assigned = payload.memberAssignment[topic] ?? []
  })
  await consumer.connect()
  await consumer.subscribe({ topic, fromBeginning: true })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message: { key, value, headers } }) => {
      running.got.push({ partition, key, value, headers: fromHeaders(headers) })
    },
  })
  return running
}

async function take(running, count) {
  await scenario.waitFor(() => running.got.length >= count, `${count} records were read`)
  return running.got
}

async function run() {
  const report = new scenario.Report(CLIENT, VERSION)
  const group = `${topic}-group`
  let sent = []
  let reader
  await report.step('create', create)
  for (const codec of Object.keys(CODECS)) {
    await report.step(codec, async () => {
      await produce(codec, scenario.records(codec))
      sent = sent.concat(scenario.records(codec))
    })
  }
  report.skip('zstd', 'no codec for it in Node 20')
  await report.step('consume', async () => {
    reader = await member(group)
    scenario.compare(sent, await take(reader, sent.length))
  })
  await report.step('commit', async () => {
    const ends = scenario.byPartition(sent).map((records, partition) => ({ topic, partition, offset: `${records.length}` }))
    await reader.consumer.commitOffsets(ends)
    await reader.consumer.disconnect()
    const [{ partitions }] = await withAdmin((admin) => admin.fetchOffsets({ groupId: group, topics: [topic] }))
    scenario.same(offsets(partitions), ends.map(({ offset }) => offset), 'committed')
  })
  await report.step('resume', async () => {
    const more = scenario.records('none', scenario.RESUMED_RECORDS)
    await produce('none', more)
    const second = await member(group)
    scenario.compare(more, await take(second, more.length))
    await second.consumer.disconnect()
    sent = sent.concat(more)
  })
  await report.step('rebalance', async () => {
    const [a, b] = await Promise.all([member(`${group}-two`), member(`${group}-two`)])
    await scenario.waitFor(() => scenario.shared(a.assigned, b.assigned), 'two members share 3 partitions')
    await Promise.all([a.consumer.disconnect(), b.consumer.disconnect()])
  })
  await report.step('offsets', async () => {
    const [found, first] = await withAdmin(async (admin) => [
      await admin.fetchTopicOffsets(topic),
      await admin.fetchTopicOffsetsByTimestamp(topic, 1),
    ])
    const ends = scenario.byPartition(sent).map((records) => `${records.length}`)
    scenario.same(found.map(({ low }) => low), ['0', '0', '0'], 'beginnings')
    scenario.same(offsets(found), ends, 'ends')
    scenario.same(offsets(first), ['0', '0', '0'], 'first since 1970')
  })
  report.print()
}

function offsets(partitions) {
  return partitions.sort((a, b) => a.partition - b.partition).map(({ offset }) => offset)
}

// Each batch is for one partition: of a batch for several it forgets those whose new leader has answered for others already,
// and says that all were sent (against Kafka, too).
async function long(count) {
  await create()
  const told = new scenario.Stream(CLIENT, VERSION, count)
  await withProducer(async (producer) => {
    for (let i = 0; i < count; i += 20) {
      const numbers = Array.from({ length: Math.min(20, count - i) }, (_, at) => i + at)
      const partition = (i / 20) % scenario.PARTITIONS
      const messages = numbers.map((number) => ({ partition, value: `${number}` }))
      await producer.send({ topic, messages }).then(() => told.ack(numbers), (error) => told.refuse(numbers, error))
      await told.pace(i)
    }
  })
  const reader = await member(`${topic}-group`)
  await scenario.waitFor(() => reader.got.length >= told.acked.size, 'all were read').catch(told.note)
  // Duplicates would come after what is awaited.
  await scenario.sleep(1000)
  await reader.consumer.disconnect()
  told.print(reader.got.map(({ value }) => Number(value)))
}

await (stream ? long(stream) : run())
