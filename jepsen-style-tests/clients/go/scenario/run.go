package scenario

import (
	"errors"
	"fmt"
	"log"
	"strconv"
	"time"
)

// A Client says how one client does what the scenario asks of all.
type Client interface {
	// Create makes the topic and waits until its partitions have leaders.
	Create() error
	// Produce returns when all are acknowledged.
	Produce(codec string, records []Record) error
	// Join makes a consumer in a group.
	Join(group string) (Member, error)
	// Committed tells a group's committed offsets.
	Committed(group string) ([Partitions]int64, error)
	// Offsets tells of each partition the first, the end, and the first since 1970.
	Offsets() (begins, ends, since [Partitions]int64, err error)
	// Send sends the numbers of the long run, and tells of each what came of it.
	Send(told *Stream) error
}

// A Member of a group.
type Member interface {
	// Take returns so many records, those that it returned before left out; when the time is over, fewer and why.
	Take(count int, within time.Duration) ([]Record, error)
	Commit() error
	// Assigned may poll: it is asked until the answer is what is awaited.
	Assigned() []int32
	Close() error
}

type run struct {
	Client
	topic string
	sent  []Record
}

// Main does what the command line asks of a client.
func Main(name, module string, connect func(bootstrap []string, topic string) Client) {
	bootstrap, topic, count := arguments()
	asked := &run{connect(bootstrap, topic), topic, nil}
	if count == 0 {
		asked.steps(newReport(name, module))
	} else if err := asked.stream(newStream(name, module, count)); err != nil {
		log.Fatal(err)
	}
}

func (r *run) steps(report *report) {
	group := r.topic + "-group"
	report.step("create", r.Create)
	for _, codec := range codecs {
		report.step(codec, func() error { return r.send(codec, records(codec, perCodec)) })
	}
	var reader Member
	report.step("consume", func() (err error) {
		if reader, err = r.Join(group); err != nil {
			return err
		}
		got, err := reader.Take(len(r.sent), Wait)
		return errors.Join(err, compare(r.sent, got))
	})
	report.step("commit", func() error { return r.commit(reader, group) })
	report.step("resume", func() error { return r.resume(group) })
	report.step("rebalance", func() error { return r.rebalance(group + "-two") })
	report.step("offsets", r.offsets)
	printLine(report)
}

func (r *run) send(codec string, records []Record) error {
	r.sent = append(r.sent, records...)
	return r.Produce(codec, records)
}

// commit commits what the reader took, and has it read back.
func (r *run) commit(reader Member, group string) error {
	if err := errors.Join(reader.Commit(), reader.Close()); err != nil {
		return err
	}
	committed, err := r.Committed(group)
	if ends := ends(r.sent); err == nil && committed != ends {
		return fmt.Errorf("committed %v, read to %v", committed, ends)
	}
	return err
}

func (r *run) resume(group string) error {
	more := records("none", resumed)
	if err := r.send("none", more); err != nil {
		return err
	}
	reader, err := r.Join(group)
	if err != nil {
		return err
	}
	got, err := reader.Take(len(more), Wait)
	return errors.Join(err, reader.Close(), compare(more, got))
}

func (r *run) rebalance(group string) error {
	first, err := r.Join(group)
	if err != nil {
		return err
	}
	second, err := r.Join(group)
	if err != nil {
		return err
	}
	err = WaitFor("two members share 3 partitions", func() (bool, error) { return shared(first.Assigned(), second.Assigned()), nil })
	return errors.Join(err, first.Close(), second.Close())
}

func (r *run) offsets() error {
	begins, found, since, err := r.Offsets()
	var zero [Partitions]int64
	if ends := ends(r.sent); err == nil && (begins != zero || found != ends || since != zero) {
		return fmt.Errorf("begins at %v, ends at %v, begins after 1970 at %v; sent %v", begins, found, since, ends)
	}
	return err
}

func (r *run) stream(told *Stream) error {
	if err := r.Create(); err != nil {
		return err
	}
	if err := r.Send(told); err != nil {
		return err
	}
	reader, err := r.Join(r.topic + "-group")
	if err != nil {
		return err
	}
	got, err := reader.Take(told.Acked, Wait)
	if err != nil {
		return err
	}
	// Duplicates would come after what is awaited; that none comes is no error.
	more, _ := reader.Take(told.Sent, time.Second)
	if err := reader.Close(); err != nil {
		return err
	}
	var numbers []int
	for _, record := range append(got, more...) {
		number, err := strconv.Atoi(string(record.Value))
		if err != nil {
			return err
		}
		numbers = append(numbers, number)
	}
	told.judge(numbers)
	return nil
}
