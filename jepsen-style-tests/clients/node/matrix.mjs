// The scenario and the long run of ../README.md, once for all clients of Node: each of them says how it does a thing.
import * as scenario from './scenario.mjs'

// What a client has (and `name`, `version`, `idempotent`: whether the long run may read nothing twice):
// - cannot: for each codec that it lacks, why.
// - create(): makes the topic and waits until its partitions have leaders.
// - produce(codec, records): sends them; done when all are acknowledged.
// - member(group): reads in a group. It has `got`, `assigned()`, `close()`, and perhaps `error`.
// - commit(reader, group, ends): commits these ends of the partitions and closes the reader; what is committed then.
// - offsets(): of each partition the first offset, the last, and the first since 1970: three lists.
// - send(told): sends the numbers of the long run, and tells of each what came of it.

async function take(reader, count) {
  await scenario.waitFor(() => {
    if (reader.error) throw reader.error
    return reader.got.length >= count
  }, `${count} records were read`)
  return reader.got
}

const ends = (sent) => scenario.byPartition(sent).map((records) => records.length)

async function steps(client, topic) {
  const report = new scenario.Report(client.name, client.version)
  const group = `${topic}-group`
  const sent = []
  let reader
  await report.step('create', client.create)
  for (const codec of scenario.CODECS) {
    if (client.cannot[codec]) {
      report.skip(codec, client.cannot[codec])
      continue
    }
    await report.step(codec, async () => {
      await client.produce(codec, scenario.records(codec))
      sent.push(...scenario.records(codec))
    })
  }
  await report.step('consume', async () => {
    reader = await client.member(group)
    scenario.compare(sent, await take(reader, sent.length))
  })
  await report.step('commit', async () => {
    scenario.same(await client.commit(reader, group, ends(sent)), ends(sent), 'committed')
  })
  await report.step('resume', async () => {
    const more = scenario.records('none', scenario.RESUMED_RECORDS)
    await client.produce('none', more)
    const second = await client.member(group)
    scenario.compare(more, await take(second, more.length))
    await second.close()
    sent.push(...more)
  })
  await report.step('rebalance', async () => {
    const [a, b] = await Promise.all([client.member(`${group}-two`), client.member(`${group}-two`)])
    await scenario.waitFor(() => scenario.shared(a.assigned(), b.assigned()), 'two members share 3 partitions')
    await Promise.all([a.close(), b.close()])
  })
  await report.step('offsets', async () => {
    const zero = ends([])
    scenario.same(await client.offsets(), [zero, ends(sent), zero], 'beginnings, ends, first since 1970')
  })
  report.print()
}

async function stream(client, topic, count) {
  await client.create()
  const told = new scenario.Stream(client.name, client.version, client.idempotent, count)
  await client.send(told)
  const reader = await client.member(`${topic}-group`)
  await take(reader, told.acked.size).catch(told.note)
  // Duplicates would come after what is awaited.
  await scenario.sleep(1000)
  await reader.close()
  told.print(reader.got.map(({ value }) => Number(value)))
}

// Does what the command line asks of a client.
export async function main(client) {
  const { topic, stream: count } = scenario.parsed()
  await (count ? stream(client, topic, count) : steps(client, topic))
}
