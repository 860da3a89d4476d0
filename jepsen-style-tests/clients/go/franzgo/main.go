// franz-go: the newest versions of everything, from a client that shares no code with the Java one.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"clients/scenario"
)

const module = "github.com/twmb/franz-go"

var compression = map[string]kgo.CompressionCodec{
	"none":   kgo.NoCompression(),
	"gzip":   kgo.GzipCompression(),
	"snappy": kgo.SnappyCompression(),
	"lz4":    kgo.Lz4Compression(),
	"zstd":   kgo.ZstdCompression(),
}

type matrix struct {
	bootstrap []string
	topic     string
}

func (m matrix) connect(options ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(options, kgo.SeedBrokers(m.bootstrap...), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		log.Fatal(err)
	}
	return client
}

func limit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), scenario.Wait)
}

func (m matrix) admin(work func(context.Context, *kadm.Client) error) error {
	client := m.connect()
	defer client.Close()
	ctx, cancel := limit()
	defer cancel()
	return work(ctx, kadm.NewClient(client))
}

func (m matrix) create() error {
	return m.admin(func(ctx context.Context, admin *kadm.Client) error {
		if _, err := admin.CreateTopic(ctx, scenario.Partitions, scenario.Replication, nil, m.topic); err != nil {
			return err
		}
		return scenario.WaitFor("3 partitions of 3 replicas have leaders", func() (bool, error) {
			topics, err := admin.ListTopics(ctx, m.topic)
			found := topics[m.topic].Partitions
			ready := len(found) == scenario.Partitions
			for _, p := range found {
				ready = ready && p.Leader >= 0 && len(p.Replicas) == scenario.Replication
			}
			return ready, err
		})
	})
}

func (m matrix) produce(codec string, records []scenario.Record) error {
	client := m.connect(kgo.ProducerBatchCompression(compression[codec]))
	defer client.Close()
	ctx, cancel := limit()
	defer cancel()
	var sent []*kgo.Record
	for _, r := range records {
		record := &kgo.Record{Topic: m.topic, Partition: r.Partition, Key: r.Key, Value: r.Value}
		for _, h := range r.Headers {
			record.Headers = append(record.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
		}
		sent = append(sent, record)
	}
	return client.ProduceSync(ctx, sent...).FirstErr()
}

func (m matrix) member(group string, options ...kgo.Opt) *kgo.Client {
	return m.connect(append(options, kgo.ConsumerGroup(group), kgo.ConsumeTopics(m.topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
}

func take(client *kgo.Client, count int) ([]scenario.Record, error) {
	ctx, cancel := limit()
	defer cancel()
	var got []scenario.Record
	for len(got) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return got, fmt.Errorf("%d of %d records: %w", len(got), count, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			record := scenario.Record{Partition: r.Partition, Key: r.Key, Value: r.Value}
			for _, h := range r.Headers {
				record.Headers = append(record.Headers, scenario.Header{Key: h.Key, Value: string(h.Value)})
			}
			got = append(got, record)
		})
	}
	return got, nil
}

// commit commits what the reader took, and reads it back through the admin API.
func (m matrix) commit(reader *kgo.Client, group string, sent []scenario.Record) error {
	ctx, cancel := limit()
	defer cancel()
	if err := reader.CommitUncommittedOffsets(ctx); err != nil {
		return err
	}
	reader.Close()
	return m.admin(func(ctx context.Context, admin *kadm.Client) error {
		committed, err := admin.FetchOffsets(ctx, group)
		return errors.Join(err, m.same(scenario.Ends(sent), func(p int32) (int64, bool) {
			at, ok := committed.Lookup(m.topic, p)
			return at.At, ok
		}))
	})
}

func (m matrix) resume(group string) ([]scenario.Record, error) {
	more := scenario.Records("none", scenario.Resumed)
	if err := m.produce("none", more); err != nil {
		return nil, err
	}
	reader := m.member(group)
	defer reader.Close()
	got, err := take(reader, len(more))
	return more, errors.Join(err, scenario.Compare(more, got))
}

// rebalance has two members poll until each is assigned some; what is assigned is told by their callbacks.
func (m matrix) rebalance(group string) error {
	var members [2]*kgo.Client
	for i := range members {
		members[i] = m.member(group)
		defer members[i].Close()
	}
	return scenario.WaitFor("two members share 3 partitions", func() (bool, error) {
		var assigned [2][]int32
		for i, member := range members {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			member.PollFetches(ctx)
			cancel()
			// What it reads from is what it is assigned.
			for p := range member.UncommittedOffsets()[m.topic] {
				assigned[i] = append(assigned[i], p)
			}
		}
		return scenario.Shared(assigned[0], assigned[1]), nil
	})
}

func (m matrix) offsets(sent []scenario.Record) error {
	return m.admin(func(ctx context.Context, admin *kadm.Client) error {
		begins, err1 := admin.ListStartOffsets(ctx, m.topic)
		ends, err2 := admin.ListEndOffsets(ctx, m.topic)
		first, err3 := admin.ListOffsetsAfterMilli(ctx, 1, m.topic)
		listed := func(offsets kadm.ListedOffsets) func(int32) (int64, bool) {
			return func(p int32) (int64, bool) {
				at, ok := offsets.Lookup(m.topic, p)
				return at.Offset, ok && at.Err == nil
			}
		}
		var zero [scenario.Partitions]int64
		return errors.Join(err1, err2, err3,
			m.same(zero, listed(begins)), m.same(scenario.Ends(sent), listed(ends)), m.same(zero, listed(first)))
	})
}

func (m matrix) same(expected [scenario.Partitions]int64, found func(int32) (int64, bool)) error {
	for p, offset := range expected {
		if at, ok := found(int32(p)); !ok || at != offset {
			return fmt.Errorf("partition %d: offset %d (told: %t), not %d", p, at, ok, offset)
		}
	}
	return nil
}

func (m matrix) run() {
	report := scenario.NewReport("franz-go", module)
	group := m.topic + "-group"
	var sent []scenario.Record
	report.Step("create", m.create)
	for _, codec := range scenario.Codecs {
		report.Step(codec, func() error {
			records := scenario.Records(codec, scenario.PerCodec)
			sent = append(sent, records...)
			return m.produce(codec, records)
		})
	}
	reader := m.member(group)
	report.Step("consume", func() error {
		got, err := take(reader, len(sent))
		return errors.Join(err, scenario.Compare(sent, got))
	})
	report.Step("commit", func() error { return m.commit(reader, group, sent) })
	report.Step("resume", func() error {
		more, err := m.resume(group)
		sent = append(sent, more...)
		return err
	})
	report.Step("rebalance", func() error { return m.rebalance(group + "-two") })
	report.Step("offsets", func() error { return m.offsets(sent) })
	report.Print()
}

func (m matrix) stream(count int) error {
	if err := m.create(); err != nil {
		return err
	}
	told := scenario.NewStream("franz-go", module, count)
	producer := m.connect()
	for i := range count {
		record := &kgo.Record{Topic: m.topic, Partition: int32(i % scenario.Partitions), Value: strconv.AppendInt(nil, int64(i), 10)}
		producer.Produce(context.Background(), record, func(_ *kgo.Record, err error) { told.Told(i, err) })
		told.Pace(i)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := producer.Flush(ctx); err != nil {
		return err
	}
	producer.Close()
	reader := m.member(m.topic + "-group")
	got, err := take(reader, told.Acked)
	if err != nil {
		return err
	}
	// Duplicates would come after what is awaited.
	rest, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	reader.PollFetches(rest).EachRecord(func(r *kgo.Record) { got = append(got, scenario.Record{Value: r.Value}) })
	reader.Close()
	var numbers []int
	for _, record := range got {
		number, err := strconv.Atoi(string(record.Value))
		if err != nil {
			return err
		}
		numbers = append(numbers, number)
	}
	told.Print(numbers)
	return nil
}

func main() {
	bootstrap, topic, count := scenario.Arguments()
	m := matrix{bootstrap, topic}
	if count == 0 {
		m.run()
	} else if err := m.stream(count); err != nil {
		log.Fatal(err)
	}
}
